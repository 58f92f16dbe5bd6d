"""A 64-bit ARM Python with NumPy, OpenCV, LiteRT and ONNX Runtime, which runs on this machine by qemu.

Its files come from Debian's arm64 packages and from wheels for aarch64. They are fetched once, without administrator's
rights, into a folder of the user's cache; what has been fetched when that is broken off is not fetched again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from needs import lacking, needed

from slimalign.runtimes.files import held

DEBS = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1"),
    *("libstdc++6", "libexpat1", "zlib1g", "libssl3", "libffi8", "libbz2-1.0", "liblzma5"),
)
WHEELS = (
    *("numpy==2.4.6", "opencv-python-headless==5.0.0.93", "onnxruntime==1.31.1", "ai-edge-litert==2.3.0"),
    *("msgspec==0.22.0", "backports.strenum==1.2.8", "flatbuffers==25.12.19", "protobuf==7.36.2"),
)
"""LiteRT and ONNX Runtime ask for the last three."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
PYTHON = "usr/bin/python3.11"
PACKAGES = "usr/local/lib/python3.11/dist-packages"
# qemu shows this machine's own /proc/cpuinfo, in which the libraries that look for ARM's features find none and end.
CPU = "cortex-a72"
CPUINFO = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def arm64_python() -> Path:
    """The command ``python3`` of a 64-bit ARM machine, made where it is not there yet.

    Where it cannot be had here the test that asks is skipped, or fails in CI.
    """
    qemu = needed("qemu-aarch64-static", "apt-get install qemu-user-static")
    needed("dpkg", "this takes Debian's packages")
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimalign-tests" / "arm64"
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / key / "python3"
    with held(folder / "lock"):
        if not command.exists():
            _make(command, qemu)
    return command


def _make(command: Path, qemu: str) -> None:
    """Everything beside its place, and then renamed: a folder that is there is whole."""
    part, fetched = command.parent.with_suffix(".part"), command.parent.with_suffix(".fetched")
    shutil.rmtree(part, ignore_errors=True)
    root = part / "root"
    root.mkdir(parents=True)
    for deb in _debs(fetched / "debs"):
        _run(["dpkg", "-x", deb, root])
    for wheel in _wheels(fetched / "wheels"):
        zipfile.ZipFile(wheel).extractall(root / PACKAGES)
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text("".join(CPUINFO.format(number=number) for number in range(2)))
    place = command.parent / "root"
    # Python would start itself anew by its ARM file, which this machine cannot run.
    started = f"import sys; sys.executable = {str(command)!r}\n"
    (root / PACKAGES / "started.pth").write_text(started)
    # Packages of this machine's Python are not for that one.
    own = "unset PYTHONPATH PYTHONHOME; export PYTHONNOUSERSITE=1"
    (part / command.name).write_text(
        f'#!/bin/sh\n{own}\nexec {qemu} -cpu {CPU} -L {place} {place}/{PYTHON} "$@"\n'
    )
    (part / command.name).chmod(0o755)
    part.rename(command.parent)
    shutil.rmtree(fetched)


def _debs(folder: Path) -> list[Path]:
    """Debian's packages, by lists of their own: this machine's know nothing of ARM."""
    wanted = [folder / f"{name}.deb" for name in DEBS]
    missing = [path.stem for path in wanted if not path.exists()]
    if missing:
        state = folder / "state"
        for name in ("lists/partial", "cache/archives/partial", "fetched"):
            (state / name).mkdir(parents=True, exist_ok=True)
        options = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",
            "Dir::State::Lists": state / "lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": state / "cache",
        }
        apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        _run([*apt, "update"])
        for name in missing:
            _run([*apt, "download", name], state / "fetched")
            (found,) = (state / "fetched").glob(f"{name}_*.deb")
            found.rename(folder / f"{name}.deb")
    return wanted


def _wheels(folder: Path) -> list[Path]:
    platforms = [f"--platform={name}" for name in PLATFORMS]
    options = [*platforms, "--python-version=3.11", "--only-binary=:all:", "--no-deps", f"--dest={folder}"]
    _run([sys.executable, "-m", "pip", "download", "--quiet", *options, *WHEELS])
    return sorted(folder.glob("*.whl"))


def _run(command: Sequence[str | Path], folder: Path | None = None) -> None:
    """Skip the test that asks where the packages cannot be fetched."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        lacking(f"no 64-bit ARM Python: {command[0]}: {said[-1]}")
