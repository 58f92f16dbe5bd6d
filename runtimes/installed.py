"""What is installed on this machine, as far as it bears on bundles: Python, packages, CUDA, JetPack, programs.

This file also runs on devices, alone: its syntax and what it uses of the standard library are those of Python 3.6.

    python3 installed.py            prints it as JSON

Large packages are not imported: versions come from what pip and apt have noted beside them.
"""

import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

UNKNOWN = "unknown"
"""The version of what is installed but does not tell it, or cannot be imported."""
PACKAGES = {
    "numpy": ("numpy",),
    "cv2": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "ai_edge_litert": ("ai-edge-litert",),
    "tflite_runtime": ("tflite-runtime",),
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
    "torch": ("torch",),
    "lightning_fabric": ("lightning-fabric",),
    "pydantic": ("pydantic",),
    "safetensors": ("safetensors",),
    "h5py": ("h5py",),
    "scipy": ("scipy",),
    "tensorboard": ("tensorboard",),
    "matplotlib": ("matplotlib",),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "litert_torch": ("litert-torch",),
    "ai_edge_quantizer": ("ai-edge-quantizer",),
}
"""By the name it is imported under, each package's names in pip."""
PROGRAMS = ("ssh", "adb", "trtexec", "nvpmodel", "jetson_clocks", "tegrastats")
PROGRAM_FOLDERS = "/usr/sbin:/sbin:/usr/src/tensorrt/bin"
"""Where programs lie that may not be on the path."""
IMPORT_SECONDS = 60
TEGRA_RELEASE = "/etc/nv_tegra_release"


def installed() -> Dict[str, Any]:
    """All of it, ready for JSON; what is missing is None, and has no entry in ``packages`` and ``programs``."""
    packages = package_versions()
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": platform.machine(),
        "system": platform.platform(),
        "packages": packages,
        "onnxruntime_providers": providers() if "onnxruntime" in packages else None,
        "cuda": cuda_version(),
        "gpu": gpu(),
        "jetson_release": jetson_release(),
        "jetpack": jetpack_version(),
        "programs": programs(),
    }


def package_versions() -> Dict[str, str]:
    """The versions of those of PACKAGES that are installed, by the names they are imported under."""
    noted = dict(reversed(list(noted_versions())))
    found = {}
    for module, names in PACKAGES.items():
        if is_there(module):
            versions = [noted[name] for name in names if name in noted]
            found[module] = versions[0] if versions else told_version(module)
    return found


def is_there(module: str) -> bool:
    """Whether ``module`` can be imported, without doing it; a mere folder of its name is none."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:
        return False
    return spec is not None and spec.origin not in (None, "namespace")


def noted_versions() -> "Iterator[Tuple[str, str]]":
    """The names in pip and the versions of all packages that Python finds, the first one first."""
    pattern = re.compile(r"(.+?)-(\d[^-]*)(?:-py[\d.]+)?\.(?:dist|egg)-info")
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            match = pattern.fullmatch(entry)
            if match is not None:
                yield re.sub(r"[-_.]+", "-", match.group(1)).lower(), match.group(2)


def told_version(module: str) -> str:
    """The version that ``module`` tells where nothing is noted of it."""
    return asked("import %s; print(%s.__version__)" % (module, module)) or UNKNOWN


def providers() -> Optional[List[str]]:
    """Where ONNX Runtime can run; None where it cannot be imported."""
    told = asked("import onnxruntime; print(','.join(onnxruntime.get_available_providers()))")
    return told.split(",") if told else None


def asked(code: str) -> Optional[str]:
    """What another Python prints last, since a package that is broken may end the one that imports it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=IMPORT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    return lines[-2].strip() if done.returncode == 0 and len(lines) > 1 else None


def cuda_version() -> Optional[str]:
    """The version of the CUDA runtime, as in ``12.6``."""
    for name in (
        "libcudart.so",
        "libcudart.so.13",
        "libcudart.so.12",
        "libcudart.so.11.0",
        "libcudart.so.10.2",
    ):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        version = ctypes.c_int()
        if library.cudaRuntimeGetVersion(ctypes.byref(version)) == 0:
            return "%d.%d" % (version.value // 1000, version.value % 1000 // 10)
    return None


def gpu() -> Optional[Dict[str, str]]:
    """The ``name`` and the ``compute_capability``, as in ``8.7``, of the first NVIDIA GPU; None where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    asked_for = ((75, major), (76, minor))  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    if driver.cuDeviceGetName(name, len(name), device):
        return None
    if any(driver.cuDeviceGetAttribute(ctypes.byref(value), which, device) for which, value in asked_for):
        return None
    capability = "%d.%d" % (major.value, minor.value)
    return {"name": name.value.decode("utf-8", "replace"), "compute_capability": capability}


def jetson_release() -> Optional[str]:
    """The line by which a Jetson names its release, None elsewhere."""
    try:
        with open(TEGRA_RELEASE, encoding="utf-8") as file:
            return file.readline().strip("# \n")
    except OSError:
        return None


def jetpack_version() -> Optional[str]:
    """The version of JetPack that apt has installed, as in ``6.2``; None where it has not."""
    try:
        done = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", "nvidia-jetpack"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    return done.stdout.decode("ascii", "replace").split("-")[0] or None if done.returncode == 0 else None


def programs() -> Dict[str, str]:
    """Where those of PROGRAMS that are there lie."""
    found = {name: shutil.which(name) or shutil.which(name, path=PROGRAM_FOLDERS) for name in PROGRAMS}
    return {name: path for name, path in found.items() if path is not None}


if __name__ == "__main__":
    json.dump(installed(), sys.stdout)
    sys.stdout.write("\n")
