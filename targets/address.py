"""How a device is reached: ``local``, ``ssh://[user@]host[:port]`` or ``adb:SERIAL``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from slimalign.runtimes.errors import UserError
from slimalign.targets.adb import AdbShell
from slimalign.targets.shell import Shell
from slimalign.targets.ssh import SshShell

LOCAL = "local"
SSH, ADB = "ssh://", "adb:"
SSH_CONFIG = "SLIMALIGN_SSH_CONFIG"
"""An environment variable: the file that ssh reads in place of the user's own configuration."""

# Neither part can begin with a hyphen, or ssh would take it for an option.
_DESTINATION = re.compile(
    r"(?:(?P<user>\w[\w.+-]*)@)?(?P<host>\w[\w.-]*|\[[\da-fA-F:.]+(?:%\w+)?\])(?::(?P<port>\d{1,5}))?/?",
    re.ASCII,
)
_SERIAL = re.compile(r"[\w\[][\w.:%()\[\]-]*", re.ASCII)


def is_address(text: str) -> bool:
    """Whether ``text`` is meant as an address, which may still hold a mistake, and not as a target's name."""
    return text == LOCAL or text.startswith((SSH, ADB))


def check_address(address: str) -> None:
    """Raise UserError where ``address`` is none."""
    if address.startswith(SSH):
        _ssh_parts(address)
    elif address.startswith(ADB):
        _serial(address)
    elif address != LOCAL:
        raise UserError(f"address {address!r} is unknown; give local, ssh://user@host or adb:SERIAL")


def shell_of(address: str) -> Shell | None:
    """The machine at ``address``, to which nothing is sent yet; None for ``local``.

    Raises UserError where ``address`` is none.
    """
    check_address(address)
    if address.startswith(SSH):
        config = os.environ.get(SSH_CONFIG)
        return SshShell(address, *_ssh_parts(address), Path(config) if config else None)
    return AdbShell(address, _serial(address)) if address.startswith(ADB) else None


def _ssh_parts(address: str) -> tuple[str | None, str, int | None]:
    """User, host and port."""
    found = _DESTINATION.fullmatch(address.removeprefix(SSH))
    if found is None:
        raise UserError(
            f"address {address!r} cannot be read; give ssh://user@host or ssh://user@host:port,"
            " with a name of your ssh configuration for all else"
        )
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"address {address!r}: port {port} is none; give one from 1 to 65535")
    return found["user"], found["host"].strip("[]"), port


def _serial(address: str) -> str:
    serial = address.removeprefix(ADB)
    if _SERIAL.fullmatch(serial) is None:
        raise UserError(f"address {address!r} names no device; give adb:SERIAL, one that 'adb devices' lists")
    return serial
