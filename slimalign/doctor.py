"""What can be made and run on this machine and on a device, and how to mend what cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from slimalign.extras import EXTRAS
from slimalign.runtimes import device_state, installed
from slimalign.runtimes.errors import UserError
from slimalign.targets.address import ADB, is_address, shell_of
from slimalign.targets.android_state import android_state
from slimalign.targets.device_job import FOUND
from slimalign.targets.profile import target_named
from slimalign.targets.shell import Shell
from slimalign.targets.target import PYTHON, Target, at_home

Needs = tuple[tuple[str, ...], ...]
"""Names of packages and programs; of each group one is enough."""
_GPU = "an NVIDIA GPU"
_RUNTIMES: Mapping[str, Needs] = {
    "onnx": (("numpy",), ("onnxruntime",)),
    "litert": (("numpy",), ("ai_edge_litert", "tflite_runtime")),
    "tensorrt": (("numpy",), ("tensorrt", "tensorrt_rtx"), (_GPU,)),
}
"""What a bundle's runtime takes on a device."""
_TITLES = {"onnx": "ONNX Runtime", "litert": "LiteRT", "tensorrt": "TensorRT"}
_TRAINING: Needs = tuple((package,) for package, extra in EXTRAS.items() if extra == "train")
_ONNX: Needs = (*_TRAINING, ("onnx",), ("onnxscript",), ("onnxruntime",))
_LITERT: Needs = (*_TRAINING, ("litert_torch",), ("ai_edge_quantizer",), ("ai_edge_litert",))
_TENSORRT_HERE = "it comes with JetPack; for RTX GPUs run pip install tensorrt-rtx-cu13"
_TENSORRT_RUNS = f"run them on a machine with an NVIDIA GPU and TensorRT: {_TENSORRT_HERE}"


@dataclass(frozen=True)
class Ability:
    """Something to do with slimalign; ``runtime`` is that of the bundles that it is about, if any."""

    what: str
    needs: Needs
    mend: str
    runtime: str | None = None


@dataclass(frozen=True)
class Check:
    """Whether there is all that an ability needs; ``missing`` is what lacks, and ``mend`` says how to get it."""

    what: str
    missing: tuple[str, ...]
    mend: str | None
    runtime: str | None

    @property
    def possible(self) -> bool:
        """Whether it can be done."""
        return not self.missing

    def to_dict(self) -> dict[str, Any]:
        """What ``doctor --json`` prints of it."""
        return {"what": self.what, "possible": self.possible, "missing": self.missing, "mend": self.mend}


@dataclass(frozen=True)
class Machine:
    """This machine or a device: what is installed there, its state, and what can be done; see ``installed``."""

    address: str
    installed: Mapping[str, Any]
    state: Mapping[str, Any]
    checks: Sequence[Check]

    def to_dict(self) -> dict[str, Any]:
        """What ``doctor --json`` prints of it."""
        return {
            "address": self.address,
            "installed": self.installed,
            "state": self.state,
            "checks": [check.to_dict() for check in self.checks],
        }


@dataclass(frozen=True)
class Diagnosis:
    """This machine, and the device where one was named that can be reached."""

    here: Machine
    target: str | None
    device: Machine | None

    @property
    def runs_nothing(self) -> bool:
        """Whether none of what the target's formats need can run on it."""
        runs = [] if self.device is None else [check for check in self.device.checks if check.runtime]
        return bool(runs) and not any(check.possible for check in runs)

    def to_dict(self) -> dict[str, Any]:
        """What ``doctor --json`` prints."""
        device = None if self.device is None else self.device.to_dict()
        return {"here": self.here.to_dict(), "target": self.target, "device": device}


def diagnose(target: str | None = None, python: str | None = None) -> Diagnosis:
    """Look at this machine, and at the device that ``target`` names: an address, a target or a profile's file.

    A target whose profile has no address is not looked at. ``python`` is the interpreter there, by default the
    profile's, or ``python3``. Raises UserError where the target is unknown or the
    device cannot be asked, and LineDroppedError where it cannot be reached.
    """
    profile = None if target is None or is_address(target) else target_named(target)
    address = target if profile is None else profile.address
    # Before anything else, so that a mistake is told at once.
    shell = None if address is None else shell_of(address)
    here = _machine("local", installed.installed(), device_state.device_state(), _abilities_here())
    if address is None:
        return Diagnosis(here, target, None)
    return Diagnosis(here, target, _device(address, shell, profile, python))


def _device(address: str, shell: Shell | None, profile: Target | None, python: str | None) -> Machine:
    runtimes = tuple(_RUNTIMES) if profile is None else profile.runtimes
    if shell is None:
        abilities = [ability for ability in _abilities_here() if ability.runtime in runtimes]
        return _machine(address, installed.installed(), device_state.device_state(), abilities)
    if address.startswith(ADB):
        return _machine(
            address, {"packages": {}, "programs": {}, "gpu": None}, android_state(shell), _abilities_android()
        )
    python = at_home(python or (PYTHON if profile is None else profile.python))
    found, state = (_told(shell, python, module) for module in (installed, device_state))
    return _machine(address, found, state, list(_abilities_there(runtimes, python)))


def _told(shell: Shell, python: str, script: Any) -> dict[str, Any]:
    """What a script for devices prints, run there from its text."""
    if FOUND not in shell.run(f"if command -v {quote(python)} >/dev/null; then echo {FOUND}; fi"):
        raise UserError(
            f'{shell.address}: {python} is not there; name its Python by --python, or as python = "..." in a profile'
        )
    text = Path(script.__file__).read_text(encoding="utf-8")
    try:
        # A login may print lines of its own before.
        told: dict[str, Any] = json.loads(shell.run(f"{quote(python)} -", text).strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise UserError(
            f"{shell.address}: {python} printed something else than was asked; name another"
        ) from None
    return told


def _machine(
    address: str, found: Mapping[str, Any], state: Mapping[str, Any], abilities: Sequence[Ability]
) -> Machine:
    there = {*found["packages"], *found["programs"], *([_GPU] if found["gpu"] else [])}
    return Machine(address, found, state, [_check(ability, there) for ability in abilities])


def _check(ability: Ability, there: set[str]) -> Check:
    missing = tuple(" or ".join(group) for group in ability.needs if not there.intersection(group))
    return Check(ability.what, missing, ability.mend if missing else None, ability.runtime)


def _abilities_here() -> list[Ability]:
    runs = {"onnx": _extra("onnxruntime"), "litert": _extra("litert"), "tensorrt": _TENSORRT_RUNS}
    return [
        *(
            Ability(f"run {_TITLES[name]} bundles", (("cv2",), *needs), runs[name], name)
            for name, needs in _RUNTIMES.items()
        ),
        Ability("train, search, slim and distil", _TRAINING, _extra("train")),
        Ability("export to ONNX and for TensorRT", _ONNX, _extra("export")),
        Ability("export to LiteRT", _LITERT, _extra("export")),
        Ability("build engines ahead of time", (("tensorrt", "tensorrt_rtx"),), _TENSORRT_HERE),
        Ability("report", (("matplotlib",),), _extra("report")),
        Ability(
            "reach devices by ssh",
            (("ssh",),),
            "install OpenSSH, as by apt-get install openssh-client",
        ),
        Ability(
            "reach Android devices",
            (("adb",),),
            "install Android's platform tools, as by apt-get install adb",
        ),
    ]


def _abilities_there(runtimes: Sequence[str], python: str) -> Iterator[Ability]:
    """What a device takes to run bundles: slimalign itself is not needed there."""
    # In an environment of its own: newer systems let nobody install into theirs.
    pip = f"on the device run {python} -m venv venv && venv/bin/pip install numpy"
    mends = {
        "onnx": f"{pip} onnxruntime, then give --python venv/bin/python",
        "litert": f"{pip} ai-edge-litert, then give --python venv/bin/python",
        "tensorrt": "on the Jetson run sudo apt-get install nvidia-jetpack python3-libnvinfer python3-numpy",
    }
    for name in runtimes:
        yield Ability(f"run {_TITLES[name]} bundles", _RUNTIMES[name], mends[name], name)


def _abilities_android() -> list[Ability]:
    """A device that answers needs nothing installed: what runs there is brought along."""
    return [Ability("run LiteRT bundles by benchmark_model, which you name", (), "", "litert")]


def _extra(name: str) -> str:
    return f"run pip install 'slimalign[{name}]'"
