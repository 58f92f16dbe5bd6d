"""Reaching an Android device by the real adb: its errors, and what it does with a stand-in for a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adb_device import Device, Manner, adb_server, connected

from slimalign.runtimes.errors import UserError
from slimalign.targets.adb import AdbShell
from slimalign.targets.address import shell_of
from slimalign.targets.shell import LineDroppedError


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with adb_server(tmp_path, monkeypatch) as command:
        yield command


def shell_at(serial: str) -> AdbShell:
    shell = shell_of(f"adb:{serial}")
    assert isinstance(shell, AdbShell)
    return shell


@pytest.fixture(params=["Android 7 and newer", "before Android 7"])
def device(request: pytest.FixtureRequest, adb: str, tmp_path: Path) -> Iterator[Device]:
    manner = Manner(modern=request.param == "Android 7 and newer")
    with connected(adb, tmp_path / "device", manner) as found:
        yield found


@pytest.fixture
def shell(device: Device) -> AdbShell:
    return shell_at(device.serial)


def told(shell: AdbShell, command: str = "true") -> str:
    with pytest.raises(UserError) as caught:
        shell.run(command)
    assert not isinstance(caught.value, LineDroppedError)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{shell.address}: ")


def test_without_a_device_it_is_told_what_to_do(adb: str) -> None:
    mend = "adb sees none: plug one in and allow USB debugging in its developer options"
    assert told(shell_at("R58M123")) == f"no such device; {mend}"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("unauthorized", "it does not trust this computer; unlock it and allow USB debugging"),
        ("offline", "it is offline; unlock it and plug it in again, or run adb reconnect offline"),
    ],
)
def test_a_device_that_takes_no_commands_is_told(adb: str, tmp_path: Path, state: str, said: str) -> None:
    with connected(adb, tmp_path / "device", Manner(state)) as device:
        shell = shell_at(device.serial)
        assert told(shell) == said
        with pytest.raises(UserError, match=said):
            shell.push({"a": tmp_path / "a"})
        assert told(shell_at("other")) == f"no such device; adb sees {device.serial} ({state})"


def test_of_several_devices_the_named_one_is_taken(adb: str, tmp_path: Path) -> None:
    with (
        connected(adb, tmp_path / "one", Manner()) as one,
        connected(adb, tmp_path / "two", Manner(modern=False)) as two,
    ):
        assert shell_at(two.serial).run("pwd") == f"{tmp_path}/two/slimalign\n"
        assert told(shell_at("third")) in (
            f"no such device; adb sees {one.serial}, {two.serial}",
            f"no such device; adb sees {two.serial}, {one.serial}",
        )


def test_without_adb_its_name_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="^adb is not installed; see 'slimalign doctor'$"):
        shell_at("R58M123").run("true")


def test_commands_run_and_fail_as_they_do(shell: AdbShell, device: Device) -> None:
    assert shell.run("pwd") == f"{device.folder}/slimalign\n"
    assert shell.run("printf 'no end'") == "no end"
    assert shell.run('read -r one; echo "it\'s $one"', "given\n") == "it's given\n"
    assert told(shell, "echo out; echo bad >&2; exit 3").endswith("bad")
    assert told(shell, "exit 3") == "ended with status 3"


def follow(shell: AdbShell, command: str, came: list[str], then: Callable[[], object]) -> None:
    with shell.lines(command) as lines:
        for line in lines:
            came.append(line)
            then()


def test_lines_come_while_the_command_runs_and_it_can_be_told_to_stop(shell: AdbShell) -> None:
    with shell.lines('echo ready; read -r line; echo; printf "told $line"') as lines:
        coming = iter(lines)
        assert next(coming) == "ready"
        lines.tell("stop")
        assert list(coming) == ["", "told stop"]
    came: list[str] = []
    with pytest.raises(UserError, match="broken$"):
        follow(shell, "echo one; echo broken >&2; exit 3", came, lambda: None)
    assert came[0] == "one"


def test_a_line_that_drops_is_told_and_what_came_is_kept(device: Device, shell: AdbShell) -> None:
    device.manner.hangs_up_after = 5
    came: list[str] = []
    with pytest.raises(
        LineDroppedError, match=": the line is down .*; the same command goes on when it is up$"
    ):
        follow(shell, "echo one; sleep 0.3; echo two; sleep 10", came, lambda: None)
    assert came == ["one"]


def test_files_are_pushed_and_fetched(shell: AdbShell, device: Device, tmp_path: Path) -> None:
    program, data = tmp_path / "program", tmp_path / "data"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    data.write_bytes(bytes(range(256)) * 50)
    shell.push({"tools/it's/program": program, "models/a b.bin": data})
    assert shell.run('"tools/it\'s/program"') == "ran\n"
    home = device.folder / "slimalign"
    assert (home / "models" / "a b.bin").read_bytes() == data.read_bytes()
    assert list(home.rglob(".part-*")) == []
    shell.pull("models/a b.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data.read_bytes()
    with pytest.raises(UserError, match="nowhere"):
        shell.pull("nowhere", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data.read_bytes()


def test_a_push_that_fails_leaves_the_old_file(shell: AdbShell, device: Device, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("new")
    shell.run("mkdir models; echo old > models/one; echo file > models/taken")
    with pytest.raises(UserError):
        shell.push({"models/one": new, "models/two": tmp_path / "missing"})
    home = device.folder / "slimalign"
    assert sorted(path.name for path in (home / "models").iterdir()) == ["one", "taken"]
    assert (home / "models" / "one").read_text() == "old\n"
