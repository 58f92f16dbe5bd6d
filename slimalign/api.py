"""The verbs of the command line as functions.

    from slimalign import api

    made = api.run("recipes/faces300w_cpu.toml", "runs/first", data="path/to/faces300w")
    (bundle,) = api.export("runs/first", ["onnx"], "exported")
    print(api.evaluate(bundle, "path/to/faces300w")["inter-ocular"].whole.nme)
    print(api.bench([bundle], batches=[1])[0].p50_ms)
    print(api.predict(bundle, "photo.jpg", [[80, 60, 280, 260]])[0]["points"])

Where a folder is wanted, a path or what was read from it will do; where a bundle is, also the TOML of a model from
elsewhere, see ``slimalign.foreign``. What cannot be done raises ``UserError``, whose text is the line that the command
line prints. Packages of an extra are imported by the verb that needs them, so that a device with one inference library
can ``evaluate``, ``bench`` and ``predict``. ``progress`` is a bar of rich's; without one nothing is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import FAILURE_THRESHOLD
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend

if TYPE_CHECKING:
    from slimalign.benchmarks.compare import Comparison
    from slimalign.benchmarks.pick import Choice
    from slimalign.benchmarks.points import Point
    from slimalign.benchmarks.told_latency import ToldLatency
    from slimalign.compress.data.evaluation import Evaluation
    from slimalign.compress.latency_table import LatencyTable
    from slimalign.compress.recipe_file import AnyRecipe
    from slimalign.doctor import Diagnosis
    from slimalign.export.lint.findings import Report
    from slimalign.making import RunResult, SlimResult
    from slimalign.parity_there import GoldenParity, Parity
    from slimalign.passes import Figures, Pass
    from slimalign.places import Where
    from slimalign.profiling import Profile
    from slimalign.runtimes.timing import Record
    from slimalign.stage_cutting import StageCut
    from slimalign.targets.target import Target

__all__ = [
    "UserError",
    "bench",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "follow",
    "latency_table",
    "lint",
    "parity",
    "pick",
    "points",
    "predict",
    "profile",
    "read_bundle",
    "read_recipe",
    "report",
    "run",
    "slim",
    "targets",
]


def read_bundle(place: str | Path) -> Bundle:
    """The bundle at ``place``: its folder, its zip, or the TOML of a model from elsewhere, see slimalign.foreign."""
    from slimalign.foreign import bundle_at

    return bundle_at(place)


def read_recipe(path: str | Path) -> AnyRecipe:
    """Read and check a recipe; raises UserError with the file, the entry, its value and the reason."""
    from slimalign.compress.recipe_file import read_recipe as read

    return read(path)


def run(
    recipe: str | Path | AnyRecipe,
    out: str | Path | None = None,
    data: str | Path | None = None,
    *,
    skip_bad: bool = False,
    retrain: bool = False,
    devices: int = 1,
    nodes: int = 1,
    progress: Progress | None = None,
) -> RunResult | None:
    """Train, search, slim, distil, export and measure by ``recipe``; the same call goes on after a break.

    ``out`` is the run folder, ``runs/<recipe's name>`` by default. Where the recipe has changed since, ``retrain``
    trains the stages anew that hang on what changed, and keeps the others. With several ``devices`` or ``nodes``
    only the first process has an answer, the others get None.
    ``failures`` of the answer tell of files that do not compute what PyTorch does.
    """
    # Read before the packages of training are imported, which takes seconds, so that a mistake is told at once.
    chosen = read_recipe(recipe) if isinstance(recipe, (str, Path)) else recipe
    from slimalign.making import run as make

    folder = Path("runs") / chosen.name if out is None else Path(out)
    return make(chosen, folder, _path(data), progress or _silent(), skip_bad, retrain, devices, nodes)


def slim(
    run_folder: str | Path,
    *,
    max_gmacs: float | None = None,
    max_params: int | None = None,
    threshold: float | None = None,
    max_ms: float | None = None,
    latency_table: str | Path | None = None,
    keep_stages: int | None = None,
    name: str = "slimmed-again",
    progress: Progress | None = None,
) -> SlimResult | StageCut:
    """Cut a run's network again: its supernet, by a budget or a threshold, to a student that is not yet fine-tuned; or
    its cascade, to ``keep_stages`` stages or to those that earn their cost within a budget, if any.

    ``max_ms`` are milliseconds by the ``latency_table`` in that file; a cascade's are those that its run measured.
    """
    from slimalign.making import slim as cut_again
    from slimalign.stage_cutting import CutWish

    table = None if latency_table is None else str(latency_table)
    wish = CutWish(threshold, max_gmacs, max_params, max_ms, table, keep_stages)
    return cut_again(Path(run_folder), wish, name, progress or _silent())


def latency_table(
    run_folder: str | Path | None = None,
    recipe: str | Path | None = None,
    *,
    format_name: str = "litert",
    threads: int | None = 1,
    target: str = "local",
    python: str | None = None,
    backend: Backend = DEFAULT_BACKEND,
    check: int = 3,
    out: str | Path = "latency-table.json",
    command: str = "slimalign.latency_table",
    progress: Progress | None = None,
) -> LatencyTable:
    """Measure what each operation of a run's search space, or a recipe's, takes in a runtime on ``target``.

    The table is written to ``out`` and the networks' files are kept beside it. Its ``tried`` are ``check`` networks
    that it was not made of, as predicted and as measured. ``command`` is kept as what makes it again.
    """
    from slimalign.benchmarks.phone import Phone
    from slimalign.latency_tables import TableRequest, measured_table
    from slimalign.places import Where, place_at
    from slimalign.run_folder import known_importances, recipe_of, with_search

    if (run_folder is None) == (recipe is None):
        raise UserError("give either a run, --run, or a recipe, --recipe: whose networks are meant?")
    if run_folder is not None:
        meant = with_search(recipe_of(Path(run_folder)), run_folder)
        importances = known_importances(Path(run_folder))
    elif recipe is not None:
        meant, importances = with_search(read_recipe(recipe), recipe), None
    place = place_at(Where(target, python, backends=[backend], results=Path(out)))
    if isinstance(place, Phone):
        raise UserError(
            f"--target {target}: a table takes single calls, which no phone tells; name another target"
        )
    request = TableRequest(meant, importances, format_name, threads, check, command)
    return measured_table(request, place, Path(out), progress or _silent())


def export(
    source: str | Path,
    formats: Sequence[str] | None = None,
    out: str | Path | None = None,
    *,
    name: str | None = None,
    target: str | Path | None = None,
    jetpack: str | None = None,
    data: str | Path | None = None,
    data_format: str = "300w",
    normaliser: str = "inter-ocular",
    skip_bad: bool = False,
    decode_inside: bool = False,
    opset: int | None = None,
    batch: int | None = None,
    compute_capability: str | None = None,
    batches: tuple[int, int, int] = (1, 1, 8),
    rescue: bool = False,
    qat: bool = False,
    zipped: bool = False,
    progress: Progress | None = None,
) -> list[Bundle]:
    """Export a finished run's student, or a PyTorch bundle, as ``out``/<name>-<format> for each of ``formats``.

    ``out`` is ``exported``/<name of the source's folder> by default, ``name`` the student's own; ``formats`` are those
    worth having on ``target``, a name or a profile's file (with JetPack ``jetpack``, by default its newest), or else
    ``onnx`` and ``litert``. Files of fewer bits than float32 need the faces of ``data``, or none where the run's are
    drawn; a run reads them by its recipe. With ``decode_inside`` the files give points and scores in place of
    heatmaps; ``opset`` is that of ONNX files, 13 or 17, by default the target's; with ``batch`` they take batches of
    this size alone. With a ``compute_capability``, as in ``8.6``, the engines of TensorRT bundles are built ahead of
    time, for the least, the best and the largest of ``batches``. Of an int8 file that does not pass the gate
    ``rescue`` keeps the worst blocks in float, and ``qat`` trains its network for int8 where that is not asked for or
    does not do. With ``zipped`` each bundle is also put into one file beside its folder, ``out``/<name>-<format>.zip.
    """
    from slimalign.export.workbench import GraphOptions
    from slimalign.export_jobs import RescueBy
    from slimalign.exporting import ExportOptions, FacesFolder
    from slimalign.exporting import export as write
    from slimalign.runtimes.engine_builder import Settings
    from slimalign.targets.profile import target_named
    from slimalign.targets.target import OPSET

    if jetpack is not None and target is None:
        raise UserError(f"--jetpack {jetpack}: name the Jetson, as in --target jetson-orin-nano")
    device = None if target is None else target_named(target, jetpack)
    if formats is None:
        formats = ("onnx", "litert") if device is None else _known_formats(device)
    if opset is None:
        opset = OPSET if device is None else device.opset
    options = ExportOptions(
        graph=GraphOptions(decode_inside, opset, batch),
        engine=None if compute_capability is None else Settings(batches, compute_capability),
        rescue=RescueBy(rescue, qat),
        target=device,
        zipped=zipped,
        name=name,
    )
    faces = FacesFolder(_path(data), data_format, normaliser, skip_bad)
    return write(Path(source), formats, _path(out), faces, options, progress or _silent())


def evaluate(
    bundle: str | Path | Bundle,
    data: str | Path,
    split: str = "test",
    data_format: str = "300w",
    *,
    normaliser: str = "inter-ocular",
    threshold: float = FAILURE_THRESHOLD,
    results: str | Path | None = None,
    skip_bad: bool = False,
    target: str = "local",
    python: str | None = None,
    benchmark_model: str | Path | None = None,
    backend: Backend = DEFAULT_BACKEND,
    progress: Progress | None = None,
) -> Mapping[str, Evaluation]:
    """Accuracy of a deployed file by normaliser, ``normaliser`` first; ``results`` gets the records.

    Crops are cut and points are judged here; the network runs on ``target``, as in ``bench``.
    """
    from slimalign.measuring import eval_bundle
    from slimalign.places import finding_at

    opened, bar = _bundle(bundle), progress or _silent()
    where = _where(target, python, benchmark_model, [backend], [opened], bar)
    return eval_bundle(
        opened,
        Path(data),
        split,
        data_format,
        bar,
        normaliser,
        threshold,
        _path(results),
        skip_bad,
        finding_at(where),
        target,
    )


def parity(
    bundle: str | Path | Bundle,
    target: str | None = None,
    *,
    data: str | Path | None = None,
    split: str = "val",
    data_format: str = "300w",
    skip_bad: bool = False,
    faces: int = 32,
    python: str | None = None,
    benchmark_model: str | Path | None = None,
    backend: Backend = DEFAULT_BACKEND,
    progress: Progress | None = None,
) -> Parity | GoldenParity:
    """How far the landmarks that a device finds lie from those that this machine finds with the same file.

    On the first ``faces`` of ``data``, or else on drawn ones; the other entries are those of ``bench``. Without a
    ``target`` how far those that this machine finds on the bundle's golden face lie from those in the bundle.
    """
    from slimalign.faces import read_split
    from slimalign.parity_there import golden_parity, parity_of
    from slimalign.places import finding_at
    from slimalign.targets.address import LOCAL

    opened, bar = _bundle(bundle), progress or _silent()
    finding = finding_at(_where(target or LOCAL, python, benchmark_model, [backend], [opened], bar))
    if target is None:
        if data is not None:
            raise UserError(
                f"--data {data}: name the device too, as in --target ssh://user@host; without one the bundle's own"
                " golden face is checked"
            )
        return golden_parity(opened, backend)
    samples = None
    if data is not None:
        samples = read_split(data_format, opened.manifest.landmark_scheme, Path(data), split, skip_bad, bar)
    return parity_of(opened, target, finding, samples, faces, bar)


def bench(
    bundles: Sequence[str | Path | Bundle],
    batches: Sequence[int] = (1, 2, 4, 8),
    threads: Sequence[int | None] = (1, None),
    *,
    data: str | Path | None = None,
    split: str = "val",
    data_format: str = "300w",
    skip_bad: bool = False,
    reference: bool = False,
    sustained: float | None = None,
    timed: Sequence[str] = ("kernel",),
    results: str | Path | None = None,
    target: str = "local",
    python: str | None = None,
    benchmark_model: str | Path | None = None,
    backends: Sequence[Backend] = (DEFAULT_BACKEND,),
    progress: Progress | None = None,
) -> Sequence[Record | ToldLatency]:
    """Latency of bundles in one interleaved sweep, on faces of ``data`` or else on drawn ones.

    ``threads`` None stands for all cores; ``reference`` takes 60 s and 1024 calls each instead of a draft, and
    ``sustained`` so many minutes of calls each, one setting after another. ``timed`` are those of ``kernel``, the
    inference alone, and ``end-to-end``, from images to landmarks, that are measured. ``target`` is ``local``,
    ``ssh://user@host``, or a device profile with an address; where the line to it drops, the same call goes on, and so
    it does on this machine after a break, with ``results``. ``python`` is the interpreter there. On a phone,
    ``adb:SERIAL``, the program at ``benchmark_model`` measures, which tells no single samples. Each of ``backends``
    says what of a runtime computes.
    """
    from slimalign.benching import DRAWN, inputs_told, protocol_of
    from slimalign.benchmarks.latency import check_batches, check_timed
    from slimalign.benchmarks.phone import Phone
    from slimalign.faces import read_split
    from slimalign.measuring import bench as measure
    from slimalign.measuring import bench_phone
    from slimalign.places import place_at

    check_timed(timed)
    opened, bar = [_bundle(bundle) for bundle in bundles], progress or _silent()
    check_batches(opened, batches)
    protocol = protocol_of(reference, sustained)
    where = _where(target, python, benchmark_model, backends, opened, bar, results)
    place = place_at(where)
    if isinstance(place, Phone):
        if data is not None:
            raise UserError(f"--data {data}: benchmark_model runs on random input; leave it out")
        if list(timed) != ["kernel"]:
            raise UserError(
                f"--timed {','.join(timed)}: benchmark_model times the kernel alone; leave it out"
            )
        return bench_phone(opened, batches, threads, bar, place, protocol, where.results)
    samples, inputs = None, DRAWN
    if data is not None and opened:
        scheme = opened[0].manifest.landmark_scheme
        samples = read_split(data_format, scheme, Path(data), split, skip_bad, bar)
        inputs = inputs_told(data_format, split, samples)
    return measure(
        opened, batches, threads, bar, samples, protocol, where.results, place, inputs, where.note, timed
    )


def points(
    results: str | Path,
    *,
    split: str | None = "val",
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
) -> list[Point]:
    """What a results file holds, a point for each bundle, runtime, batch size and thread count.

    ``split`` None takes the only one that there is, ``batch`` and ``threads`` None take every setting.
    """
    from slimalign.measuring import points as joined

    return joined(Path(results), split, normaliser, protocol, target, batch, threads)


def pick(
    results: str | Path,
    *,
    max_latency_ms: float | None = None,
    max_p90_ms: float | None = None,
    max_nme: float | None = None,
    max_nme_subset: Mapping[str, float] | None = None,
    max_failure_rate: float | None = None,
    max_size_mb: float | None = None,
    max_gmacs: float | None = None,
    max_params: float | None = None,
    max_memory_mb: float | None = None,
    max_energy_mj: float | None = None,
    min_throughput: float | None = None,
    batch: int = 1,
    threads: int = 1,
    runtime: str | None = None,
    precision: str | None = None,
    split: str | None = "val",
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
) -> Choice:
    """The most accurate point within limits, or what would have to give: ``point`` is None where none fits.

    The limits are those of the command line, in its units; ``max_nme_subset`` is a limit by the subset's name.
    """
    from slimalign.benchmarks.limits import Limits
    from slimalign.choosing import pick as choose

    limits = Limits(
        max_latency_ms=max_latency_ms,
        max_p90_ms=max_p90_ms,
        max_nme=max_nme,
        max_failure_rate=max_failure_rate,
        max_size_mb=max_size_mb,
        max_gmacs=max_gmacs,
        max_params=max_params,
        max_memory_mb=max_memory_mb,
        max_energy_mj=max_energy_mj,
        min_throughput=min_throughput,
        max_nme_subset=max_nme_subset or {},
    )
    choice, _ = choose(
        Path(results), limits, runtime, precision, split, normaliser, protocol, target, batch, threads
    )
    return choice


def compare(
    before: str | Path,
    after: str | Path,
    *,
    max_worse: float = 5.0,
    split: str = "val",
    normaliser: str = "inter-ocular",
    force: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """What changed from one results file to another, figure by figure; ``worse`` holds what surely got worse.

    ``max_worse`` is by how many percent a figure may be worse; ``force`` compares across protocols and processors too.
    """
    from slimalign.choosing import compare as compare_files

    return compare_files(
        Path(before), Path(after), split, normaliser, max_worse, force, progress or _silent()
    )


def report(
    results: str | Path,
    out: str | Path = "report.html",
    *,
    figures: str | Path | None = None,
    split: str = "val",
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    x: str | None = None,
    photos: bool = True,
) -> list[Point]:
    """Write the report of a results file, or of a run folder, as one HTML page; the answer is the points it opens with.

    ``out`` may also end in .png or .svg: then it is the frontier alone. ``figures`` is a folder that gets every figure
    as SVG and its data as CSV. The page opens with the latency at ``batch`` and ``threads``, by default the smallest
    that were measured, and with the cost ``x`` across; ``protocol`` and ``target`` keep other latencies out.
    Without ``photos`` the page does not show the test faces of a run.
    """
    from slimalign.reporting import Wish
    from slimalign.reporting import report as write

    wish = Wish(split, normaliser, protocol, target, batch, threads, x, photos)
    return write(Path(results), Path(out), wish, _path(figures)).points


def predict(
    bundle: str | Path | Bundle,
    photo: str | Path,
    boxes: Sequence[Sequence[float]] = (),
    out: str | Path | None = None,
    *,
    detector: str | Path | None = None,
    least_score: float | None = None,
    backend: Backend = DEFAULT_BACKEND,
) -> list[dict[str, Any]]:
    """One entry a face: ``box``, ``points`` (K, 2) and ``scores`` (K,) in pixels of the photo.

    ``boxes`` are x0, y0, x1, y1; else those of the face ``detector`` in a model file, whose finds are faces where their
    points' mean score is ``least_score``; without both the whole photo is taken as one face. With ``out`` the photo is
    written there with the landmarks drawn.
    """
    from slimalign.face_finding import FacePlaces
    from slimalign.predicting import predict_photo

    places = FacePlaces(boxes, _path(detector), least_score)
    return predict_photo(_bundle(bundle), Path(photo), places, _path(out), backend)


def follow(
    bundle: str | Path | Bundle,
    source: str | Path,
    told: Callable[[dict[str, Any]], None],
    how: Pass | None = None,
    *,
    progress: Progress | None = None,
) -> Figures:
    """Landmarks in every image of ``source``: a video file, a folder of photos, ``camera:0``, ``camera:csi``.

    ``told`` gets a document an image: ``image`` or ``frame`` and ``time_s``, and ``faces`` as those of ``predict``, in
    videos smoothed and with their number, ``face``. ``how``, a ``slimalign.passes.Pass``, says where faces are looked
    for and what is written. The answer counts images and faces and where the time went.
    """
    from slimalign.passes import Figures, Pass
    from slimalign.predicting import predict_many

    figures = Figures()
    predict_many(_bundle(bundle), str(source), how or Pass(), told, figures, progress or _silent())
    return figures


def profile(
    network: str | Path,
    landmarks: int | None = None,
    input_size: int | None = None,
    *,
    timed: bool = False,
    threads: int | None = 1,
    results: str | Path | None = None,
) -> Profile:
    """Cost of a network by name, of an architecture's JSON, of a bundle, or of an .onnx or .tflite file, by layers.

    With ``timed`` also how long the runtime of a bundle takes for each layer; ``results`` gets the layers of a bundle.
    Raises ``slimalign.runtimes.errors.CheckError``, a UserError, for a file with operators that cannot be counted.
    """
    from slimalign.profiling import profile as count

    return count(str(network), landmarks, input_size, timed, threads, _path(results))


def targets() -> list[Target]:
    """The devices that files can be made and checked for, by name."""
    from slimalign.targets.profile import all_targets

    return all_targets()


def lint(file: str | Path, target: str | Path, jetpack: str | None = None) -> Report:
    """What in a file, a bundle's or a TOML's too, does not run on a device, or slowly, or computes something else.

    ``target`` is the name of a device, or the path of a profile of your own; a Jetson has its newest JetPack, or the
    version ``jetpack``. The report's ``facts`` say what is in the file; of its ``findings`` those of level ``error``
    tell what does not run there or computes something else. Nothing is run on the device, or needed from it.
    """
    from slimalign.export.lint.lint import lint as read
    from slimalign.targets.profile import target_named

    path = Path(file)
    report = read(read_bundle(path).folder if path.suffix == ".toml" else path, target_named(target, jetpack))
    return replace(report, file=str(file))


def doctor(target: str | None = None, python: str | None = None) -> Diagnosis:
    """What is installed on this machine and on the device ``target``, what can be done there, how to mend the rest.

    ``target`` is an address, or a target or the path of a profile of your own that has one; ``python`` is the
    interpreter there.
    """
    from slimalign.doctor import diagnose

    return diagnose(target, python)


def _known_formats(target: Target) -> Sequence[str]:
    """The formats of a profile, which may be a user's."""
    from slimalign.export.formats import format_named

    try:
        return [name for name in target.formats if format_named(name)]
    except UserError as error:
        raise UserError(f"target {target.name}: {error}") from None


def _bundle(given: str | Path | Bundle) -> Bundle:
    return given if isinstance(given, Bundle) else read_bundle(given)


def _where(
    target: str,
    python: str | None,
    benchmark_model: str | Path | None,
    backends: Sequence[Backend],
    bundles: Sequence[Bundle],
    progress: Progress,
    results: str | Path | None = None,
) -> Where:
    """What is said of the machine; raises UserError for a choice of backend that none of ``bundles`` has a use for."""
    from slimalign.benchmarks.opening import check_backend
    from slimalign.places import Where

    for backend in backends:
        check_backend(backend, bundles)

    def note(text: str) -> None:
        progress.console.print(text, markup=False, highlight=False)

    return Where(target, python, _path(benchmark_model), backends, note, _path(results))


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _silent() -> Progress:
    return Progress(console=Console(quiet=True), disable=True)
