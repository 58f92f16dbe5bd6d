"""Bundles in LiteRT (TensorFlow Lite), with XNNPACK or another delegate. Python 3.6 syntax, see session.py."""

import ctypes
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Union

import numpy as np

from slimalign.runtimes.errors import MissingLibraryError, UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Float32, answer_of, check_batch, thread_count

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from slimalign.runtimes.bundle import Bundle

PACKAGES = ("ai_edge_litert", "tflite_runtime")
"""Where the Interpreter may come from, the one to prefer first; the second serves older devices."""
GPU_DELEGATE = "libtensorflowlite_gpu_delegate.so"
"""What TensorFlow Lite's own build calls the library of its GPU delegate."""


class _End(NamedTuple):
    """The input or the output of a model: whole numbers stand for (number - zero_point) * scale."""

    tensor: int
    dtype: "np.dtype[Any]"
    scale: float
    zero_point: int

    def stored(self, values: Float32) -> "NDArray[Any]":
        """``values`` as the model takes them."""
        if self.dtype == np.float32:
            return values
        limits = np.iinfo(self.dtype)
        whole = np.rint(values / np.float32(self.scale)) + self.zero_point
        return np.asarray(np.clip(whole, limits.min, limits.max), dtype=self.dtype)

    def real(self, stored: "NDArray[Any]") -> Float32:
        """What the model's numbers ``stored`` stand for."""
        if self.dtype == np.float32:
            return stored
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class LiteRtSession:
    """A .tflite file in LiteRT's interpreter; ``threads`` None means all cores.

    What the delegate of ``backend`` does not know runs in plain kernels. Raises UserError where no interpreter is
    installed, or the delegate cannot be loaded, or the interpreter cannot open the file.
    """

    def __init__(self, bundle: "Bundle", threads: Optional[int] = None, backend: Backend = DEFAULT_BACKEND):
        self.manifest = bundle.manifest
        self.threads = thread_count(threads)
        self.runtime = "litert" if backend.delegate == "xnnpack" else f"litert-{_told(backend.delegate)}"
        self._path = bundle.model_path
        mend = "export it again or update LiteRT"
        self._interpreter = open_interpreter(self._path, self.threads, mend, backend.delegate)
        package = _library(self._path)
        self.version = f"{package.__name__} {package.__version__}"
        self._input = _only(bundle, "inputs", self._interpreter.get_input_details())
        self._outputs = _outputs(bundle, self._interpreter.get_output_details())
        self._shape: "Optional[tuple[int, ...]]" = None  # what the tensors are planned for

    def run(self, inputs: Float32) -> Float32:
        """Raw heatmaps of normalised ``inputs``, see Session."""
        if inputs.shape != self._shape:
            self._resize(inputs)
        self._interpreter.set_tensor(self._input.tensor, self._input.stored(inputs))
        self._interpreter.invoke()
        return self._answer([end.real(self._interpreter.get_tensor(end.tensor)) for end in self._outputs])

    def as_stored(self, inputs: Float32) -> "NDArray[Any]":
        """Normalised ``inputs`` as the file takes them, which may be whole numbers."""
        return self._input.stored(inputs)

    def from_stored(self, raw: bytes) -> Float32:
        """What ``run`` gives for one face: ``raw`` are the bytes of all outputs, in order, from another interpreter.

        Raises UserError for another number of bytes.
        """
        shape = tuple(self._interpreter.get_input_details()[0]["shape"])
        self._resize(np.zeros((1,) + shape[1:], np.float32))
        details = self._interpreter.get_output_details()
        sizes = [int(np.prod(detail["shape"])) * np.dtype(detail["dtype"]).itemsize for detail in details]
        if sum(sizes) != len(raw):
            raise UserError(
                f"{self._path}: {len(raw)} bytes of outputs came, the file gives {sum(sizes)}; export it again"
            )
        found, place = {}, 0
        for detail, size in zip(details, sizes):
            values = np.frombuffer(raw[place : place + size], detail["dtype"])
            found[detail["index"]] = values.reshape(detail["shape"])
            place += size
        return self._answer([end.real(found[end.tensor]) for end in self._outputs])

    def _answer(self, found: List[Float32]) -> Float32:
        return answer_of(found, self.manifest)

    def _resize(self, inputs: Float32) -> None:
        """Plan the tensors anew for the shape of ``inputs``."""
        check_batch(inputs, self.manifest)
        self._shape = None
        try:
            self._interpreter.resize_tensor_input(self._input.tensor, inputs.shape)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self._path}: LiteRT cannot run it on input of shape {inputs.shape}"
                f" ({str(error).splitlines()[0]}); run the batch size it was exported with"
            ) from error
        self._shape = inputs.shape

    def __enter__(self) -> "LiteRtSession":
        return self

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        error: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> None:
        del self._interpreter


def open_interpreter(path: "Union[Path, str]", threads: int, mend: str, delegate: str = "xnnpack") -> Any:
    """LiteRT's interpreter of the file ``path``, of the first of ``PACKAGES`` that is installed.

    Raises UserError where none is, where the delegate cannot be loaded, or where it cannot open the file: then ``mend``
    is the way out.
    """
    package = _library(path)
    library = importlib.import_module(f"{package.__name__}.interpreter")
    options = _delegate_options(library, delegate)
    try:
        return library.Interpreter(model_path=str(path), num_threads=threads, **options)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: {package.__name__} cannot open it ({str(error).splitlines()[0]}); {mend}"
        ) from error


def _library(path: "Union[Path, str]") -> Any:
    """The first of ``PACKAGES`` that is installed and can be loaded."""
    refused = ""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            importlib.import_module(f"{name}.interpreter")
            return importlib.import_module(name)
        except ImportError as error:  # such as one that is built for a newer system
            refused = f"{path}: {name} is installed but cannot be loaded ({' '.join(str(error).split())})"
    if refused:
        raise UserError(f"{refused}; install a version for this system, or tflite-runtime")
    raise MissingLibraryError(path, "LiteRT", "ai-edge-litert", "litert")


def _delegate_options(library: Any, delegate: str) -> Dict[str, Any]:
    """What the interpreter is given for ``delegate``: XNNPACK is what it takes by itself."""
    if delegate == "xnnpack":
        return {}
    plain = {"experimental_op_resolver_type": library.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    if delegate == "none":
        return plain
    path, *settings = (GPU_DELEGATE if delegate == "gpu" else delegate).split(",")
    if not all("=" in setting for setting in settings):
        raise UserError(
            f"delegate {delegate}: give its options as name=value, as in libdelegate.so,backend=htp"
        )
    try:
        # LiteRT's own way of failing with a library that is not there ends in a second error, which it prints.
        ctypes.CDLL(path)
        loaded = library.load_delegate(path, dict(setting.split("=", 1) for setting in settings))
    except (OSError, ValueError) as error:
        raise UserError(
            f"delegate {delegate}: {path} cannot be loaded ({' '.join(str(error).split())});"
            " give the path of a LiteRT delegate's library, or xnnpack"
        ) from None
    return dict(plain, experimental_delegates=[loaded])


def _told(delegate: str) -> str:
    """A delegate as records give it: its library's name without the folder, and its options."""
    path, *options = delegate.split(",")
    name = path.replace("\\", "/").split("/")[-1].split(".")[0]
    return ",".join([name] + options)


def _only(bundle: "Bundle", what: str, details: List[Dict[str, Any]]) -> _End:
    """The one input or output of the model."""
    if len(details) != 1 or not is_number(details[0]):
        found = ", ".join(f"{detail['name']} {np.dtype(detail['dtype'])}" for detail in details)
        raise UserError(
            f"{bundle.model_path}: its {what} are {found}; exactly one of float32 is needed, or of int8, uint8 or"
            " int16 with a scale, export it again"
        )
    return _end(details[0])


def is_number(detail: "Mapping[str, Any]") -> bool:
    """Whether real numbers can be told by what LiteRT calls this input or output."""
    if detail["dtype"] in (np.int8, np.uint8, np.int16):
        return bool(detail["quantization"][0] > 0)
    return bool(detail["dtype"] == np.float32)


def _outputs(bundle: "Bundle", details: List[Dict[str, Any]]) -> List[_End]:
    """The heatmaps or the coordinates, or the points and their scores."""
    if bundle.manifest.output != "points":
        wanted = bundle.manifest.output_name
        chosen = [detail for detail in details if wanted in (None, detail["name"])]
        return [_only(bundle, "outputs", chosen or details)]
    by_rank = {len(detail["shape"]): detail for detail in details if detail["dtype"] is np.float32}
    if set(by_rank) != {2, 3} or len(details) != len(by_rank):
        found = ", ".join(f"{d['name']} {np.dtype(d['dtype'])} {list(d['shape'])}" for d in details)
        raise UserError(
            f"{bundle.model_path}: its outputs are {found}; points (N, K, 2) and scores (N, K) are needed, export it"
            " again"
        )
    return [_end(by_rank[3]), _end(by_rank[2])]


def _end(detail: Dict[str, Any]) -> _End:
    scale, zero_point = detail["quantization"]
    return _End(detail["index"], np.dtype(detail["dtype"]), scale, zero_point)
