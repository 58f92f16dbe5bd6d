"""The verb ``profile``: what a network or a model file costs, layer by layer, and how long a runtime takes for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimalign.benchmarks.layer_times import LayerTimes, layer_times
from slimalign.benchmarks.layers import Layer, LayersRecord
from slimalign.benchmarks.results import append, check_results
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.foreign import READERS, bundle_at
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, is_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.showing import remark

NO_READER = "the package that reads its file is not installed; run pip install 'slimalign[export]'"
COUNTS = ("params", "macs", "params_without_head", "macs_without_head")


@dataclass(frozen=True)
class Profile:
    """What a network or file costs; ``landmarks`` and ``input_size`` are None for a bare model file.

    ``totals`` are the four COUNTS and ``bytes_moved``, None where it is not known, as what a file's head is, or what a
    network moves that is no file yet. ``layers`` are None where the package that reads the file is not installed.
    """

    network: str
    landmarks: int | None
    input_size: int | None
    totals: Mapping[str, int | None]
    layers: tuple[Layer, ...] | None
    times: LayerTimes | None = None

    def to_dict(self, layers: bool = False) -> dict[str, Any]:
        """What ``profile --json`` prints; with ``layers`` also each Layer, with ``ms`` where they were timed."""
        document: dict[str, Any] = {
            "network": self.network,
            "landmarks": self.landmarks,
            "input": None if self.input_size is None else [self.input_size, self.input_size],
            **self.totals,
        }
        if self.times is not None:
            document |= {**self.timing, "layers_ms": self.layers_ms}
        if layers:
            document["layers"] = [asdict(layer) for layer in self.known_layers()]
            if self.times is None:
                for layer in document["layers"]:
                    del layer["ms"]
        return document

    @property
    def timing(self) -> dict[str, Any]:
        """The entries of ``times`` but for the single nodes."""
        return {} if self.times is None else {k: v for k, v in asdict(self.times).items() if k != "nodes"}

    @property
    def layers_ms(self) -> float:
        """What the times of all layers add up to."""
        return sum(layer.ms or 0.0 for layer in self.layers or ())

    def known_layers(self) -> tuple[Layer, ...]:
        """The layers, the slowest first where they were timed; raises UserError where they are not known."""
        if self.layers is None:
            raise UserError(f"{self.network}: {NO_READER}")
        if self.times is None:
            return self.layers
        return tuple(
            sorted(self.layers, key=lambda layer: -1.0 if layer.ms is None else layer.ms, reverse=True)
        )


def profile(
    name: str,
    landmarks: int | None = None,
    input_size: int | None = None,
    timed: bool = False,
    threads: int | None = 1,
    results: Path | None = None,
) -> Profile:
    """Count a network given by name, by an architecture's JSON, by a bundle or a TOML of one, or by a model file.

    ``landmarks`` and ``input_size`` override what the name or the JSON stands for. With ``timed`` the runtime of a
    bundle is asked how long it takes for each layer on ``threads`` (None: all cores). ``results`` gets a LayersRecord
    of a bundle. Raises UserError for a network that is not known, or cannot have so many landmarks or that input size,
    and CheckError for a file with operators that cannot be counted.
    """
    path = Path(name)
    told = landmarks is not None or input_size is not None
    if path.suffix == ".toml" or is_bundle(path):
        return _of_bundle(name, bundle_at(path), told, timed, threads, results)
    for option, given in (("--timed", timed), ("--results", results is not None)):
        if given:
            raise UserError(
                f"{name}: {option} is for bundles, and for a TOML of a model from elsewhere; give one"
            )
    if path.suffix in READERS:
        return _of_file(path, told)
    from slimalign.compress.cost import count
    from slimalign.compress.networks.catalogue import build_network

    built = build_network(name, landmarks, input_size)
    cost = count(built.network, built.input_size)
    layers = tuple(Layer(one.name, one.kind, one.params, one.macs, None) for one in cost.layers)
    return Profile(name, built.landmarks, built.input_size, {**cost.totals(), "bytes_moved": None}, layers)


def _of_file(path: Path, told: bool) -> Profile:
    from slimalign.export.file_cost import count_file

    if told:
        raise UserError(
            f"{path}: a model file has its landmarks and input size; leave --landmarks and --input out"
        )
    cost = count_file(path)
    return Profile(str(path), None, None, {**dict.fromkeys(COUNTS), **cost.totals()}, cost.layers)


def _of_bundle(
    place: str, bundle: Bundle, told: bool, timed: bool, threads: int | None, results: Path | None
) -> Profile:
    manifest = bundle.manifest
    if told:
        raise UserError(
            f"{place}: a bundle has {manifest.landmark_scheme.count} landmarks and input size"
            f" {manifest.input_size}; leave --landmarks and --input out, or profile the architecture's JSON"
        )
    if results is not None:
        check_results(results)
    layers, moved = _counted(bundle)
    totals = {name: manifest.cost.get(name) for name in COUNTS}
    if totals["params"] is None or totals["macs"] is None:
        mend = f"its {MANIFEST_NAME} does not hold the network's cost; export it again"
        raise UserError(f"{place}: {NO_READER if layers is None else mend}")
    found = Profile(
        manifest.name,
        manifest.landmark_scheme.count,
        manifest.input_size,
        {**totals, "bytes_moved": moved},
        layers,
    )
    if timed:
        found = _timed(found, bundle, threads)
    if results is not None:
        append(results, [_record(found, bundle)], remark)
    return found


def _counted(bundle: Bundle) -> tuple[tuple[Layer, ...] | None, int | None]:
    """The layers of a bundle's file, and the bytes that they move; of PyTorch's network these are not known."""
    if bundle.manifest.format == "torch":
        from slimalign.compress.cost import count
        from slimalign.compress.torch_files import read_network

        found = count(read_network(bundle.folder), bundle.manifest.input_size).layers
        return tuple(Layer(one.name, one.kind, one.params, one.macs, None) for one in found), None
    if importlib.util.find_spec(READERS[bundle.model_path.suffix]) is None:
        return None, bundle.manifest.cost.get("bytes_moved")
    from slimalign.export.file_cost import count_file

    cost = count_file(bundle.model_path)
    return cost.layers, cost.totals()["bytes_moved"]


def _timed(found: Profile, bundle: Bundle, threads: int | None) -> Profile:
    from slimalign.export.layer_matching import timed_layers
    from slimalign.export.onnx_graph import read_onnx_graph

    manifest = bundle.manifest
    faces = drawn_samples(manifest.batch or 1, manifest.landmark_scheme, seed=0)
    inputs = network_inputs(cut_crops(faces, manifest.crop_rule), manifest)
    times = layer_times(bundle, inputs, threads)
    graph = read_onnx_graph(bundle.model_path) if manifest.format == "onnx" else None
    layers = timed_layers(found.known_layers(), times.nodes, graph)
    return Profile(found.network, found.landmarks, found.input_size, found.totals, layers, times)


def _record(found: Profile, bundle: Bundle) -> LayersRecord:
    manifest, told = bundle.manifest, found.timing
    return LayersRecord(
        bundle=manifest.name,
        sha256=bundle.sha256,
        precision=manifest.precision,
        layers=found.layers or found.known_layers(),
        batch=manifest.batch or 1,
        **{name: told[name] for name in ("runtime", "version", "threads", "runs", "p50_ms") if name in told},
    )
