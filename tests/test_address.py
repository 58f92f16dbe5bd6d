"""How a device is named by the way to reach it, and what is no such name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimalign.runtimes.errors import UserError
from slimalign.targets.adb import AdbShell
from slimalign.targets.address import is_address, shell_of
from slimalign.targets.ssh import SshShell


def parts(address: str) -> list[str]:
    """The words of ssh's command line that come of an address alone."""
    shell = shell_of(address)
    assert isinstance(shell, SshShell)
    *options, destination, _ = shell._command("true")
    shell.close()
    return [*options[1 : options.index("-o")], destination]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ssh://pi@10.0.0.7", ["pi@10.0.0.7"]),
        ("ssh://nano", ["nano"]),
        ("ssh://nano/", ["nano"]),
        ("ssh://a.b-c@my-host.example:2222", ["-p", "2222", "a.b-c@my-host.example"]),
        ("ssh://me@[fe80::1%eth0]:22", ["-p", "22", "me@fe80::1%eth0"]),
    ],
)
def test_an_ssh_address_becomes_a_destination(address: str, words: list[str]) -> None:
    assert parts(address) == words
    assert is_address(address)


def test_local_needs_no_shell_and_adb_takes_serials_of_all_kinds() -> None:
    assert shell_of("local") is None
    for serial in ("R58M123ABC", "emulator-5554", "192.168.0.5:5555", "adb-1A2B._adb-tls-connect._tcp"):
        shell = shell_of(f"adb:{serial}")
        assert isinstance(shell, AdbShell)
        assert shell.address == f"adb:{serial}"
    assert not is_address("orin-nano")
    assert not is_address("my-device.toml")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ssh://", "cannot be read; give ssh://user@host or ssh://user@host:port"),
        ("ssh://-oProxyCommand=x", "cannot be read"),
        ("ssh://me@-oProxyCommand=x", "cannot be read"),
        ("ssh://-l@host", "cannot be read"),
        ("ssh://me:secret@host", "cannot be read"),
        ("ssh://host:port", "cannot be read"),
        ("ssh://host:0", "port 0 is none; give one from 1 to 65535"),
        ("ssh://host:65536", "port 65536 is none"),
        ("ssh://host/folder", "cannot be read"),
        ("ssh://ho st", "cannot be read"),
        ("ssh://host\n", "cannot be read"),
        ("adb:", "names no device; give adb:SERIAL, one that 'adb devices' lists"),
        ("adb:-s", "names no device"),
        ("telnet://host", "is unknown; give local, ssh://user@host or adb:SERIAL"),
    ],
)
def test_what_is_no_address_is_told_in_one_line(address: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        shell_of(address)
    assert said in str(caught.value)
    assert str(caught.value).startswith("address ")
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="-oabC0@:[]/.%= \n'$;", max_size=12))
def test_nothing_in_an_address_reaches_ssh_as_an_option(text: str) -> None:
    try:
        words = parts(f"ssh://{text}")
    except UserError:
        return
    assert words[:-1] in ([], ["-p", words[1] if len(words) > 1 else ""])
    assert all(not word.startswith("-") for word in words[-1].split("@"))
