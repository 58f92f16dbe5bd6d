"""Reaching a machine by ssh: a real sshd on this one, whose line is cut in the middle."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from getpass import getuser
from pathlib import Path
from threading import Thread

import pytest
from sshd import Sshd, free_port, running_sshd

from slimalign.runtimes.errors import UserError
from slimalign.targets import ssh
from slimalign.targets.address import SSH_CONFIG, shell_of
from slimalign.targets.shell import LineDroppedError
from slimalign.targets.ssh import SshShell


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def shell_at(server: Sshd, monkeypatch: pytest.MonkeyPatch, address: str | None = None) -> SshShell:
    monkeypatch.setenv(SSH_CONFIG, str(server.config))
    shell = shell_of(address or server.address)
    assert isinstance(shell, SshShell)
    return shell


@pytest.fixture
def shell(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshShell]:
    found = shell_at(sshd, monkeypatch)
    yield found
    found.close()


def test_a_command_runs_in_the_home_and_is_given_its_input(shell: SshShell, sshd: Sshd) -> None:
    assert shell.run("pwd") == f"{sshd.home}\n"
    assert shell.run('cat; echo "it\'s $HOME"', "a\nb\n") == f"a\nb\nit's {sshd.home}\n"
    assert shell.run("printf '\\303\\251'") == "é"


@pytest.mark.parametrize("status", [1, 7, 254, 255])
def test_a_command_that_fails_is_told_by_its_last_line_of_error(shell: SshShell, status: int) -> None:
    with pytest.raises(UserError) as caught:
        shell.run(f"echo out; echo first >&2; echo last >&2; exit {status}")
    assert str(caught.value) == f"{shell.address}: last"
    assert not isinstance(caught.value, LineDroppedError)
    with pytest.raises(UserError, match=f"ended with status {min(status, 254)}$"):
        shell.run(f"exit {status}")


def test_a_command_killed_by_a_signal_has_failed_and_the_line_has_not(shell: SshShell) -> None:
    with pytest.raises(UserError) as caught:
        shell.run("sh -c 'kill -9 $$'")
    assert not isinstance(caught.value, LineDroppedError)


def test_commands_share_one_connection_which_close_ends(shell: SshShell, sshd: Sshd) -> None:
    assert len({shell.run("echo $SSH_CONNECTION") for _ in range(3)}) == 1
    folder = shell._folder
    assert (folder / "s").exists()
    shell.close()
    assert not folder.exists()


def test_where_the_path_of_its_socket_is_too_long_each_command_connects_anew(
    shell: SshShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "LONGEST_SOCKET", 0)
    assert len({shell.run("echo $SSH_CONNECTION") for _ in range(2)}) == 2


def test_a_shared_connection_that_was_killed_is_made_anew(shell: SshShell) -> None:
    before = shell.run("echo $SSH_CONNECTION")
    asked = subprocess.run(shell._about_shared("check"), check=True, capture_output=True, text=True)
    (process,) = re.findall(r"pid=(\d+)", asked.stderr)
    os.kill(int(process), signal.SIGKILL)
    assert shell.run("echo $SSH_CONNECTION") != before


def test_lines_come_while_the_command_still_runs_and_it_can_be_told_to_stop(shell: SshShell) -> None:
    command = 'echo é; echo ready; while read -r line; do echo "told $line"; [ $line = stop ] && exit 0; done'
    with shell.lines(command) as lines:
        coming = iter(lines)
        assert (next(coming), next(coming)) == ("é", "ready")
        lines.tell("go on")
        assert next(coming) == "told go on"
        lines.tell("stop")
        assert list(coming) == ["told stop"]
        lines.tell("nobody hears this")


def test_a_last_line_without_an_end_is_a_line(shell: SshShell) -> None:
    came: list[str] = []
    follow(shell, "printf 'one\n\nno end'", came, lambda: None)
    assert came == ["one", "", "no end"]


def test_lines_of_a_command_that_fails_come_before_its_error(shell: SshShell) -> None:
    came: list[str] = []
    with (
        pytest.raises(UserError, match=": broken$"),
        shell.lines("echo one; echo broken >&2; exit 3") as lines,
    ):
        came.extend(lines)
    assert came == ["one"]


def test_leaving_lines_early_lets_the_command_go_on(shell: SshShell, sshd: Sshd) -> None:
    with shell.lines("echo started; sleep 0.3; touch went-on") as lines:
        assert next(iter(lines)) == "started"
    await_file(sshd.home / "went-on")


def await_file(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.02)


def follow(shell: SshShell, command: str, came: list[str], then: Callable[[], object]) -> None:
    """Gather the lines that come of ``command``, and do something after each."""
    with shell.lines(command) as lines:
        for line in lines:
            came.append(line)
            then()


def test_a_line_cut_in_the_middle_is_told_and_the_next_command_goes_through(
    shell: SshShell, sshd: Sshd
) -> None:
    before = shell.run("echo $SSH_CONNECTION")
    came: list[str] = []
    with pytest.raises(LineDroppedError) as caught:
        follow(shell, "printf 'one\nhalf a'; sleep 0.5; touch after; sleep 10", came, sshd.cut)
    assert came == ["one"]
    assert str(caught.value).startswith(f"{sshd.address}: the line is down")
    assert "\n" not in str(caught.value)
    assert shell.run("echo $SSH_CONNECTION") != before
    await_file(sshd.home / "after")


def test_a_line_that_has_died_without_a_word_is_noticed(
    shell: SshShell, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "ALIVE_SECONDS", 1)
    monkeypatch.setattr(ssh, "ALIVE_MISSES", 1)
    came: list[str] = []
    with pytest.raises(LineDroppedError):
        follow(shell, "echo one; sleep 10", came, sshd.freeze)
    assert came == ["one"]
    assert shell.run("echo again") == "again\n"


def test_files_are_pushed_with_odd_names_and_their_rights_and_fetched_again(
    shell: SshShell, sshd: Sshd, tmp_path: Path
) -> None:
    program, data = tmp_path / "program", tmp_path / "data"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    data.write_bytes(bytes(range(256)) * 5000)
    shell.push({"runs/-o it's/program": program, "runs/a b/ü.bin": data, "runs/$HOME": data})
    shell.push({"top": data})
    assert shell.run('"runs/-o it\'s/program"') == "ran\n"
    assert {str(path.relative_to(sshd.home)) for path in sshd.home.rglob("*") if path.is_file()} >= {
        "runs/-o it's/program",
        "runs/a b/ü.bin",
        "runs/$HOME",
        "top",
    }
    assert list(sshd.home.rglob(".part-*")) == []
    shell.pull("runs/a b/ü.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data.read_bytes()
    with pytest.raises(UserError, match="nowhere: No such file"):
        shell.pull("nowhere", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data.read_bytes()


def test_a_push_cut_in_the_middle_leaves_nothing_and_the_next_one_goes_through(
    shell: SshShell, sshd: Sshd, tmp_path: Path
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_text("new")
    with large.open("wb") as file:
        file.truncate(1 << 30)  # takes no room here, and seconds to send
    (sshd.home / "bundle").mkdir()
    (sshd.home / "bundle" / "small").write_text("old")

    def cut_when_it_arrives() -> None:
        end = time.monotonic() + 30
        while not list((sshd.home / "bundle").glob(".part-*/1")) and time.monotonic() < end:
            time.sleep(0.01)
        sshd.cut()

    cutter = Thread(target=cut_when_it_arrives)
    cutter.start()
    with pytest.raises(LineDroppedError):
        shell.push({"bundle/small": small, "bundle/large": large})
    cutter.join()
    end = time.monotonic() + 30
    while list((sshd.home / "bundle").glob(".part-*")) and time.monotonic() < end:
        time.sleep(0.02)
    assert [path.name for path in (sshd.home / "bundle").iterdir()] == ["small"]
    assert (sshd.home / "bundle" / "small").read_text() == "old"
    shell.push({"bundle/small": small})
    assert (sshd.home / "bundle" / "small").read_text() == "new"


def told(shell: SshShell) -> str:
    with pytest.raises(UserError) as caught:
        shell.run("true")
    shell.close()
    assert not isinstance(caught.value, LineDroppedError)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{shell.address}: ")


def test_a_key_that_is_not_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_sshd(tmp_path, accepted=False) as server:
        own = f"-p {server.address.rpartition(':')[2]} {getuser()}@127.0.0.1"
        assert told(shell_at(server, monkeypatch)) == (
            f"it takes none of your keys; run ssh-copy-id {own}, or ssh-add for a key with a passphrase"
        )


def test_an_unknown_host_key_and_a_changed_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_sshd(tmp_path, known=False) as server:
        port = server.address.rpartition(":")[2]
        assert told(shell_at(server, monkeypatch)) == (
            f"its host key is not known; run ssh -p {port} {getuser()}@127.0.0.1 once and compare the fingerprint"
        )
        known = f"[127.0.0.1]:{port} {(tmp_path / 'other.pub').read_text()}"
        (tmp_path / "known_hosts").write_text(known)
        assert told(shell_at(server, monkeypatch)) == (
            "its host key is another than before; if that is right, remove the old one with ssh-keygen -R"
        )


def test_what_cannot_be_reached_is_told(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nobody = f"ssh://127.0.0.1:{free_port()}"
    assert told(shell_at(sshd, monkeypatch, nobody)).startswith(
        "no ssh server listens there; start sshd on it"
    )
    nowhere = "ssh://nowhere.invalid"
    assert told(shell_at(sshd, monkeypatch, nowhere)).startswith("no machine of this name is found; ")
    monkeypatch.setenv(SSH_CONFIG, str(tmp_path / "missing"))
    lost = shell_of(sshd.address)
    assert isinstance(lost, SshShell)
    assert told(lost).startswith("ssh says: Can't open user config file ")


def test_a_machine_that_does_not_answer_is_a_line_that_is_down(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shell = shell_at(sshd, monkeypatch, f"ssh://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(LineDroppedError, match="the line is down .*timed out"):
            shell.run("true")
    shell.close()


def test_without_ssh_its_name_is_told(
    shell: SshShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="^ssh is not installed; see 'slimalign doctor'$"):
        shell.run("true")
