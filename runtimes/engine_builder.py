"""Builds the TensorRT engine of a bundle, on the machine that will run it or ahead of time.

This file is copied into TensorRT bundles as build_engine.py. There it runs with what JetPack brings: Python from 3.6,
TensorRT from 8.0, and nothing else; so its syntax is that of Python 3.6, and it imports nothing of slimalign.

    python3 build_engine.py                          builds for this machine's GPU
    python3 build_engine.py --batches 1,4,8          least, best and largest batch size
    python3 build_engine.py --trtexec                prints the equal line for trtexec
    python3 build_engine.py --layers                 builds, and prints the engine's layers as JSON

An engine runs only on the GPU, the platform and the TensorRT that it was built for. It lies in engines/, and beside it
a JSON file says what it was built for; where that is not what is asked for, it is built again from the ONNX.
"""

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

MODULES = ("tensorrt", "tensorrt_rtx")
"""Where TensorRT may come from: a Jetson's own, or that for RTX GPUs, which also builds on machines without a GPU."""
INPUT = "image"
WORKSPACE_MB = 1024
ENGINES = "engines"
NEEDED = {"format", "model", "files", "precision", "input_size", "output", "batch"}
"""Entries of a manifest that are read here."""
DECODER = "/decoder/"
"""In the names of the layers that turn heatmaps into points."""
TEGRA_RELEASE = "/etc/nv_tegra_release"


class EngineError(Exception):
    """What cannot be built, in one line that says why and what to do."""


class Settings(NamedTuple):
    """What an engine is built for: least, best and largest batch, and a compute capability as in ``8.7``."""

    batches: Tuple[int, int, int]
    capability: str


class Library(NamedTuple):
    """An installed TensorRT."""

    module: Any
    name: str
    version: str

    @property
    def strongly_typed(self) -> bool:
        """Whether precisions are those in the ONNX alone: newer versions have no flags for them."""
        return not hasattr(self.module.BuilderFlag, "FP16")

    @property
    def names_capabilities(self) -> bool:
        """Whether it builds for a GPU that is not there."""
        return hasattr(self.module, "ComputeCapability")


def installed_libraries() -> List[Library]:
    """Those of MODULES that are installed."""
    found = []
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        found.append(Library(module, name, module.__version__))
    return found


def library_for(capability: str) -> Library:
    """The first installed TensorRT that builds for ``capability``; raises EngineError where none does."""
    libraries = installed_libraries()
    if not libraries:
        raise EngineError(
            "TensorRT is not installed; it comes with JetPack, and for RTX GPUs run pip install tensorrt-rtx-cu13"
        )
    for library in libraries:
        if capability in buildable(library):
            return library
    listed = ", ".join(
        "%s %s for %s" % (one.name, one.version, ", ".join(buildable(one)) or "no GPU") for one in libraries
    )
    raise EngineError("compute capability %s: here builds %s; build it on the device" % (capability, listed))


def buildable(library: Library) -> List[str]:
    """The compute capabilities that ``library`` builds for here: most builds are for the GPU that is there alone."""
    if library.names_capabilities:
        names = [name[2:] for name in dir(library.module.ComputeCapability) if name.startswith("SM")]
        return [name[:-1] + "." + name[-1] for name in sorted(names, key=int)]
    here = gpu()
    return [] if here is None else [here.capability]


class Gpu(NamedTuple):
    """The GPU of this machine."""

    name: str
    capability: str


def gpu() -> Optional[Gpu]:
    """The first GPU; None where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for attribute, value in ((75, major), (76, minor)):  # COMPUTE_CAPABILITY_MAJOR and _MINOR
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    if driver.cuDeviceGetName(name, len(name), device):
        return None
    return Gpu(name.value.decode("utf-8", "replace"), "%d.%d" % (major.value, minor.value))


def gpu_named(capability: str) -> Optional[str]:
    """The name of the GPU here where it is of ``capability``: others of it, with fewer cores, run other engines."""
    here = gpu()
    return here.name if here is not None and here.capability == capability else None


def platform_release() -> Optional[str]:
    """The line by which a Jetson names its release, None elsewhere."""
    if not os.path.isfile(TEGRA_RELEASE):
        return None
    with open(TEGRA_RELEASE, encoding="utf-8") as file:
        return file.readline().strip("# \n")


def read_manifest(bundle: str) -> Dict[str, Any]:
    """``bundle.json`` of the folder ``bundle``, whose ONNX has been checked against its sha256."""
    path = os.path.join(bundle, "bundle.json")
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)  # type: Dict[str, Any]
    except (OSError, ValueError) as error:
        raise EngineError("%s: cannot be read (%s); give a TensorRT bundle" % (path, error))
    if not isinstance(manifest, dict) or not NEEDED.issubset(manifest):
        raise EngineError("%s: lacks some of %s; export the bundle again" % (path, ", ".join(sorted(NEEDED))))
    if manifest.get("format") != "tensorrt":
        raise EngineError(
            "%s: a bundle of format %s; give a TensorRT bundle" % (bundle, manifest.get("format"))
        )
    model = os.path.join(bundle, manifest["model"])
    if not os.path.isfile(model) or file_sha256(model) != manifest["files"][manifest["model"]]:
        raise EngineError(
            "%s: missing, changed or cut short since the export; export the bundle again" % model
        )
    return manifest


def file_sha256(path: str) -> str:
    """The sha256 of a file, as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def engine_for(bundle: str, settings: Settings) -> str:
    """The path of the engine of ``bundle`` for ``settings`` on this machine, built where it is not there or stale."""
    manifest, library = read_manifest(bundle), library_for(settings.capability)
    settings = settings._replace(batches=batches_of(manifest, settings.batches))
    wanted = facts_of(manifest, library, settings)
    folder = os.path.join(bundle, ENGINES)
    name = "sm%s-b%d-%d-%d" % ((settings.capability.replace(".", ""),) + settings.batches)
    path = os.path.join(folder, name + ".engine")
    if is_current(path, wanted):
        return path
    try:
        os.makedirs(folder, exist_ok=True)
        sys.stderr.write("building %s, which takes minutes\n" % path)
        cache = os.path.join(folder, "timing-%s.cache" % timing_key(library, settings))
        start = time.time()
        engine = build(bundle, manifest, library, settings, cache)
        replace_file(path, engine)
        facts = dict(wanted, engine_sha256=hashlib.sha256(engine).hexdigest())
        facts["build_s"] = round(time.time() - start, 1)
        replace_file(sidecar_path(path), (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise EngineError(
            "%s: cannot be written (%s); free some space or mend its rights" % (folder, error.strerror)
        )
    return path


def batches_of(manifest: Dict[str, Any], asked: Tuple[int, int, int]) -> Tuple[int, int, int]:
    """What is ``asked`` for, or the one batch size that the ONNX was exported with."""
    only = manifest["batch"]
    return asked if only is None else (only, only, only)


def facts_of(manifest: Dict[str, Any], library: Library, settings: Settings) -> Dict[str, Any]:
    """Everything that an engine hangs on."""
    return {
        "library": library.name,
        "version": library.version,
        "compute_capability": settings.capability,
        "gpu": gpu_named(settings.capability),
        "platform": platform_release(),
        "batches": list(settings.batches),
        "precision": manifest["precision"],
        "onnx_sha256": manifest["files"][manifest["model"]],
    }


def sidecar_path(engine: str) -> str:
    """The JSON file that says what ``engine`` was built for."""
    return engine + ".json"


def is_current(engine: str, wanted: Dict[str, Any]) -> bool:
    """Whether ``engine`` is there, whole, and built for what is ``wanted``; nothing else may be loaded."""
    try:
        with open(sidecar_path(engine), encoding="utf-8") as file:
            facts = json.load(file)
        whole = dict(wanted, engine_sha256=file_sha256(engine))
        return isinstance(facts, dict) and all(facts.get(name) == value for name, value in whole.items())
    except (OSError, ValueError):
        return False


def replace_file(path: str, data: bytes) -> None:
    """Put ``data`` at ``path`` as a whole: a kill leaves the old file."""
    part = "%s.%d.part" % (path, os.getpid())
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, path)


def timing_key(library: Library, settings: Settings) -> str:
    """By which timings of kernels are kept: those of another version, GPU or platform are of no use."""
    capability = settings.capability
    facts = [library.name, library.version, capability, gpu_named(capability), platform_release()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def build(
    bundle: str, manifest: Dict[str, Any], library: Library, settings: Settings, timing_cache: str
) -> bytes:
    """The engine as bytes; the file ``timing_cache`` is used and kept where TensorRT has one."""
    trt = library.module
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(library))
    parser = trt.OnnxParser(network, logger)
    model = os.path.join(bundle, manifest["model"])
    with open(model, "rb") as file:
        parsed = parser.parse(file.read())
    if not parsed:
        first = parser.get_error(0)
        raise EngineError(
            "%s: %s %s cannot read it (%s)" % (model, library.name, library.version, first.desc())
        )
    config = builder.create_builder_config()
    set_workspace(config, trt)
    if hasattr(config, "profiling_verbosity"):  # so that --layers tells their precisions
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    set_precision(config, library, manifest["precision"])
    if manifest["output"] == "points":
        keep_decoder_float32(network, config, library)
    set_capability(config, library, settings.capability)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *shapes(manifest, settings))
    config.add_optimization_profile(profile)
    timings = use_timings(config, library, timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(
            "%s: %s %s cannot build it for compute capability %s, see above; free memory or lower --batches"
            % (model, library.name, library.version, settings.capability)
        )
    if timings is not None:
        replace_file(timing_cache, bytes(timings.serialize()))
    return bytes(engine)


def network_flags(library: Library) -> int:
    """The flags of a network: by its ONNX's types alone where the version asks for that, with explicit batches."""
    flags = library.module.NetworkDefinitionCreationFlag
    names = ["STRONGLY_TYPED"] if library.strongly_typed else ["EXPLICIT_BATCH"]
    return sum(1 << int(getattr(flags, name)) for name in names if hasattr(flags, name))


def set_workspace(config: Any, trt: Any) -> None:
    """TensorRT 8.4 has renamed it."""
    size = WORKSPACE_MB << 20
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:
        config.max_workspace_size = size


def set_precision(config: Any, library: Library, precision: str) -> None:
    """Allow float16, and int8 where the ONNX quantises, in versions that ask for it."""
    if library.strongly_typed:
        return
    for flag in precision_flags(precision):
        config.set_flag(getattr(library.module.BuilderFlag, flag))


def precision_flags(precision: str) -> List[str]:
    """Beside int8, float16 for what is not quantised: the head, and what TensorRT has no int8 kernel for."""
    return {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}[precision]


def keep_decoder_float32(network: Any, config: Any, library: Library) -> None:
    """Where float16 is a flag for the whole network, hold the decoder's layers to float32: its places are too large."""
    if library.strongly_typed:
        return
    trt = library.module
    names = ("OBEY_PRECISION_CONSTRAINTS", "STRICT_TYPES")  # the second before TensorRT 8.2
    config.set_flag(next(getattr(trt.BuilderFlag, name) for name in names if hasattr(trt.BuilderFlag, name)))
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        made = [layer.get_output(place) for place in range(layer.num_outputs)]
        if DECODER in layer.name and all(tensor.dtype in (trt.float32, trt.float16) for tensor in made):
            layer.precision = trt.float32
            for place in range(layer.num_outputs):
                layer.set_output_type(place, trt.float32)


def set_capability(config: Any, library: Library, capability: str) -> None:
    """Build for ``capability`` where the version is told one; others build for the GPU that is there."""
    if library.names_capabilities:
        config.num_compute_capabilities = 1
        known = library.module.ComputeCapability
        config.set_compute_capability(getattr(known, "SM" + capability.replace(".", "")), 0)


def shapes(manifest: Dict[str, Any], settings: Settings) -> List[Tuple[int, int, int, int]]:
    """The input's shape at the least, the best and the largest batch."""
    size = manifest["input_size"]
    return [(batch, 3, size, size) for batch in settings.batches]


def use_timings(config: Any, library: Library, path: str) -> Optional[Any]:
    """Let ``config`` use the timings kept at ``path``, if any; None for RTX, which times nothing when it builds."""
    if library.name != MODULES[0]:
        return None
    kept = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            kept = file.read()
    timings = config.create_timing_cache(kept)
    if not config.set_timing_cache(timings, False):  # of another version after all
        timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, False)
    return timings


def layers_of(engine: str, library: Library) -> str:
    """The layers of the file ``engine`` as JSON, with their precisions: what TensorRT has made of the network."""
    trt = library.module
    if not hasattr(trt, "EngineInspector"):
        raise EngineError(
            "--layers: %s %s cannot tell them; TensorRT can from 8.2 on" % (library.name, library.version)
        )
    with open(engine, "rb") as file:
        loaded = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(file.read())
    if loaded is None:
        raise EngineError("%s: cannot be loaded here, see above; --layers needs the GPU it is for" % engine)
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return str(text)


def trtexec_line(manifest: Dict[str, Any], library_version: str, batches: Tuple[int, int, int]) -> str:
    """The line for trtexec that builds the same engine, every setting that builds one stated."""
    if manifest["output"] == "points":
        raise EngineError(
            "trtexec would compute the decoder in float16; build with this script, or export heatmaps"
        )
    size = manifest["input_size"]
    numbers = [int(part) for part in library_version.split(".")[:2]]
    names = ("min", "opt", "max")
    parts = ["trtexec", "--onnx=" + manifest["model"], "--saveEngine=model.engine"]
    if manifest["batch"] is None:  # shapes that the ONNX fixes may not be given
        parts += ["--%sShapes=%s:%dx3x%dx%d" % (n, INPUT, b, size, size) for n, b in zip(names, batches)]
    if numbers[0] < 11:
        parts += ["--" + flag.lower() for flag in precision_flags(manifest["precision"])]
    parts.append(
        "--memPoolSize=workspace:%d" % WORKSPACE_MB if numbers >= [8, 4] else "--workspace=%d" % WORKSPACE_MB
    )
    parts.append("--skipInference" if numbers >= [8, 6] else "--buildOnly")
    return " ".join(parts)


def parse_batches(text: str) -> Tuple[int, int, int]:
    """``least,best,largest``; raises EngineError for anything else."""
    try:
        least, best, most = (int(part) for part in text.split(","))
    except ValueError:
        raise EngineError("--batches %s: give least, best and largest batch size, as in 1,1,8" % text)
    return check_batches((least, best, most))


def check_batches(batches: Tuple[int, int, int]) -> Tuple[int, int, int]:
    """``batches`` as they are; raises EngineError where they are no least, best and largest size."""
    least, best, most = batches
    if not 1 <= least <= best <= most:
        raise EngineError("--batches %d,%d,%d: give three sizes from 1 that do not fall" % batches)
    return batches


def main() -> int:
    """Build the engine of the bundle that this file lies in, or of the one that is named."""
    here = os.path.dirname(os.path.abspath(__file__))
    options = argparse.ArgumentParser(description="Build the TensorRT engine of a bundle.")
    options.add_argument(
        "bundle", nargs="?", default=here, help="its folder; default the one this file lies in"
    )
    options.add_argument(
        "--batches", default="1,1,8", help="least, best and largest batch size; default 1,1,8"
    )
    options.add_argument("--compute-capability", help="as in 8.6; default that of this machine's GPU")
    options.add_argument(
        "--trtexec", action="store_true", help="print the equal line for trtexec and build nothing"
    )
    options.add_argument("--layers", action="store_true", help="print the layers of the engine as JSON")
    chosen = options.parse_args()
    try:
        batches = parse_batches(chosen.batches)
        if chosen.trtexec:
            versions = [library.version for library in installed_libraries() if library.name == MODULES[0]]
            if not versions:
                raise EngineError(
                    "trtexec comes with TensorRT, which is not installed here; ask on the device"
                )
            manifest = read_manifest(chosen.bundle)
            print(trtexec_line(manifest, versions[0], batches_of(manifest, batches)))
            return 0
        found, capability = gpu(), chosen.compute_capability
        if capability is None:
            if found is None:
                raise EngineError("no GPU here; name one to build for, as in --compute-capability 8.6")
            capability = found.capability
        engine = engine_for(chosen.bundle, Settings(batches, capability))
        print(layers_of(engine, library_for(capability)) if chosen.layers else engine)
    except EngineError as error:
        print("build_engine: %s" % error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
