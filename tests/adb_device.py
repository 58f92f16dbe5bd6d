"""A stand-in for an Android device that the real adb connects to.

It speaks adb's protocol as adb's own protocol.txt and SYNC.TXT describe it, and runs commands by this machine's sh,
with a folder in the place of /data/local/tmp. It was not recorded from a device, and no figure of it is one.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

import pytest
from needs import needed
from sshd import free_port

TEMPORARY = "/data/local/tmp"
VERSION, LARGEST = 0x01000000, 4096
TOKEN, SIGNATURE = 1, 2
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
BLOCK = 1024


@dataclass
class Manner:
    """How the device behaves: ``state`` is ``device``, ``unauthorized`` or ``offline``; ``modern`` from Android 7 on.

    With ``hangs_up_after`` it leaves when a command has written so many bytes.
    """

    state: str = "device"
    modern: bool = True
    hangs_up_after: int | None = None


@dataclass(frozen=True)
class Device:
    """A device that adb knows by ``serial``; ``folder`` is its /data/local/tmp."""

    serial: str
    folder: Path
    manner: Manner


@contextmanager
def adb_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of adb's for this test alone, on a port of its own; its command."""
    adb = needed("adb", "apt-get install adb")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    monkeypatch.setenv("HOME", str(folder))  # adb makes a key there
    for name in ("ADB_SERVER_SOCKET", "ANDROID_SERIAL", "ADB_VENDOR_KEYS"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run([adb, "start-server"], check=True, capture_output=True)
    try:
        yield adb
    finally:
        subprocess.run([adb, "kill-server"], check=False, capture_output=True)


@contextmanager
def connected(adb: str, folder: Path, manner: Manner) -> Iterator[Device]:
    """A device at the server that ``adb`` talks to."""
    listener = socket.create_server(("127.0.0.1", 0))
    serial = f"127.0.0.1:{listener.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    device = Device(serial, folder, manner)
    threading.Thread(target=_accept, args=(listener, device), daemon=True).start()
    try:
        # It waits long for a device that does not answer.
        connecting = subprocess.Popen([adb, "connect", serial], stdout=subprocess.DEVNULL)
        while f"{serial}\t{manner.state}\n" not in _devices(adb):
            time.sleep(0.02)
        yield device
    finally:
        connecting.kill()
        connecting.wait()
        subprocess.run([adb, "disconnect", serial], check=False, capture_output=True)
        listener.close()


def _devices(adb: str) -> str:
    return subprocess.run([adb, "devices"], check=True, capture_output=True, text=True).stdout


def _accept(listener: socket.socket, device: Device) -> None:
    with suppress(OSError):
        while True:
            line, _ = listener.accept()
            threading.Thread(target=_Line(line, device).serve, daemon=True).start()


@dataclass
class _Line:
    """A connection; its streams by the device's number of each."""

    socket: socket.socket
    device: Device
    streams: dict[int, _Stream] = field(default_factory=dict)
    sending: threading.Lock = field(default_factory=threading.Lock)

    def serve(self) -> None:
        with self.socket, suppress(OSError, EOFError):
            while True:
                name, first, second, size, *_ = struct.unpack("<4s5I", self._take(24))
                self._answer(name, first, second, self._take(size))

    def send(self, name: bytes, first: int, second: int, data: bytes = b"") -> None:
        (number,) = struct.unpack("<I", name)
        checksum = sum(data) & 0xFFFFFFFF
        head = struct.pack("<6I", number, first, second, len(data), checksum, number ^ 0xFFFFFFFF)
        with self.sending:
            self.socket.sendall(head + data)

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _answer(self, name: bytes, first: int, second: int, data: bytes) -> None:
        manner = self.device.manner
        if manner.state == "offline":
            return
        if manner.state == "unauthorized":
            if name == b"CNXN" or (name == b"AUTH" and first == SIGNATURE):
                self.send(b"AUTH", TOKEN, 0, bytes(20))
            return
        if name == b"CNXN":
            features = b"shell_v2,cmd" if manner.modern else b""
            self.send(b"CNXN", VERSION, LARGEST, b"device::ro.product.name=stand_in;features=" + features)
        elif name == b"OPEN":
            stream = _Stream(self, number=len(self.streams) + 1, theirs=first)
            self.streams[stream.number] = stream
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=stream.serve, args=(service,), daemon=True).start()
        elif second in self.streams:
            self.streams[second].take(name, data)


@dataclass
class _Stream:
    """One service that adb has opened, such as a command; what is sent waits for adb's word that it came."""

    line: _Line
    number: int
    theirs: int
    came: Queue[bytes] = field(default_factory=Queue)
    heard: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    rest: bytes = b""
    sent: int = 0
    hung_up: bool = False

    def take(self, name: bytes, data: bytes) -> None:
        if name == b"OKAY":
            self.heard.release()
        elif name == b"WRTE":
            self.came.put(data)
            self.line.send(b"OKAY", self.number, self.theirs)
        elif name == b"CLSE":
            self.came.put(b"")
            self.heard.release()

    def read(self, size: int) -> bytes:
        while len(self.rest) < size:
            part = self.came.get()
            if not part:
                raise EOFError
            self.rest += part
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def write(self, data: bytes) -> None:
        self.line.send(b"WRTE", self.number, self.theirs, data)
        self.heard.acquire()

    def serve(self, service: str) -> None:
        self.line.send(b"OKAY", self.number, self.theirs)
        kind, _, argument = service.partition(":")
        with suppress(OSError, EOFError):
            if kind == "sync":
                self._sync()
            else:
                self._shell(argument, with_packets="v2" in kind)
            self.line.send(b"CLSE", self.number, self.theirs)

    def _here(self, text: str) -> str:
        return text.replace(TEMPORARY, str(self.line.device.folder))

    def _shell(self, command: str, with_packets: bool) -> None:
        errors = subprocess.PIPE if with_packets else subprocess.STDOUT
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        with subprocess.Popen(["sh", "-c", self._here(command)], **pipes) as process:
            feeding = self._feed_packets if with_packets else self._feed_bytes
            threading.Thread(target=feeding, args=(process,), daemon=True).start()
            pumps = [(process.stdout, STDOUT)] + ([(process.stderr, STDERR)] if with_packets else [])
            threads = [threading.Thread(target=self._pump, args=(*pump, with_packets)) for pump in pumps]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if self.hung_up:
                process.kill()
        if with_packets:
            self.write(struct.pack("<BIB", EXIT, 1, process.returncode & 0xFF))

    def _pump(self, pipe, kind: int, with_packets: bool) -> None:
        while data := pipe.read1(BLOCK):
            self.sent += len(data)
            limit = self.line.device.manner.hangs_up_after
            if limit is not None and self.sent > limit:
                self.hung_up = True
                self.line.socket.shutdown(socket.SHUT_RDWR)
                return
            # Before Android 7 commands wrote to a terminal.
            framed = (
                struct.pack("<BI", kind, len(data)) + data if with_packets else data.replace(b"\n", b"\r\n")
            )
            self.write(framed)

    def _feed_packets(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, size = struct.unpack("<BI", self.read(5))
                data = self.read(size)
                if kind == CLOSE_STDIN:
                    process.stdin.close()
                    return
                if kind == STDIN:
                    process.stdin.write(data)
                    process.stdin.flush()

    def _feed_bytes(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(OSError):
            while data := self.came.get():
                process.stdin.write(data)
                process.stdin.flush()
            process.stdin.close()

    def _sync(self) -> None:
        while True:
            name, size = struct.unpack("<4sI", self.read(8))
            if name == b"QUIT":
                return
            path = self._here(self.read(size).decode())
            if name == b"STAT":
                self._stat(Path(path))
            elif name == b"SEND":
                self._receive(path)
            elif name == b"RECV":
                self._give(Path(path))

    def _stat(self, path: Path) -> None:
        found = path.stat() if path.exists() else None
        numbers = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
        self.write(struct.pack("<4s3I", b"STAT", *numbers))

    def _receive(self, target: str) -> None:
        path, _, mode = target.rpartition(",")
        with open(path, "wb") as file:
            while True:
                name, size = struct.unpack("<4sI", self.read(8))
                if name == b"DONE":
                    break
                file.write(self.read(size))
        os.chmod(path, int(mode) & 0o777)
        self.write(struct.pack("<4sI", b"OKAY", 0))

    def _give(self, path: Path) -> None:
        data = path.read_bytes()
        for start in range(0, len(data), BLOCK):
            part = data[start : start + BLOCK]
            self.write(struct.pack("<4sI", b"DATA", len(part)) + part)
        self.write(struct.pack("<4sI", b"DONE", 0))
