"""A real sshd on a free port of this machine, with keys, a home and settings of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

from needs import needed

PRIVILEGE_SEPARATION = Path("/run/sshd")
START_SECONDS = 20


@dataclass(frozen=True)
class Sshd:
    """A machine to reach: its address, the ssh configuration that knows its key, and the user's home there."""

    address: str
    config: Path
    home: Path
    process: subprocess.Popen[bytes]

    def cut(self) -> int:
        """Kill the connections that are open now, and how many processes those were; their commands stay."""
        found = _connections(self.process.pid)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)

    def freeze(self) -> None:
        """Let the connections that are open now answer nothing more, as a machine that lost its network."""
        for pid in _connections(self.process.pid):
            os.kill(pid, signal.SIGSTOP)


@contextmanager
def running_sshd(folder: Path, known: bool = True, accepted: bool = True) -> Iterator[Sshd]:
    """A server with all its files in ``folder``; its host key is ``known`` to the client, whose key it ``accepted``."""
    server = needed("sshd", "apt-get install openssh-server")
    keygen = needed("ssh-keygen", "apt-get install openssh-client")
    if os.geteuid() == 0:  # where sshd, run by root, wants an empty folder
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    home = folder / "home"
    home.mkdir()
    for name in ("host", "user", "other"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / ("user.pub" if accepted else "other.pub"), folder / "authorized")
    port = free_port()
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}" if known else "")
    (folder / "sshd_config").write_text(_server_settings(folder, home, port))
    (folder / "ssh_config").write_text(
        f"Host *\n IdentityFile {folder}/user\n IdentitiesOnly yes\n IdentityAgent none\n"
        f" UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile none\n"
    )
    log = folder / "sshd.log"
    process = subprocess.Popen([server, "-D", "-f", folder / "sshd_config", "-E", log])
    try:
        _await(port, process, log)
        yield Sshd(f"ssh://{getuser()}@127.0.0.1:{port}", folder / "ssh_config", home, process)
    finally:
        for pid in _connections(process.pid):
            with suppress(ProcessLookupError):  # it may end by itself meanwhile
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _server_settings(folder: Path, home: Path, port: int) -> str:
    return (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"PermitRootLogin yes\nKbdInteractiveAuthentication no\nSetEnv HOME={home}\n"
    )


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"sshd did not start: {log.read_text()}")


def _connections(server: int) -> list[int]:
    """The processes of ``server`` that serve a connection each: those below it that are sshd themselves."""
    found, waiting = [], [server]
    while waiting:
        children = Path(f"/proc/{waiting.pop()}/task")
        listed = [path.read_text() for path in children.glob("*/children")] if children.exists() else []
        for child in (int(word) for text in listed for word in text.split()):
            name = Path(f"/proc/{child}/comm")
            if name.exists() and name.read_text().startswith("sshd"):
                found.append(child)
                waiting.append(child)
    return found
