"""Bundles in ONNX Runtime. Python 3.6 syntax, see session.py."""

import importlib.util
from typing import TYPE_CHECKING, Any, List, Optional, Union

import numpy as np

from slimalign.runtimes.errors import MissingLibraryError, UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Float32, answer_of, check_batch, thread_count

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from slimalign.runtimes.bundle import Bundle

ERRORS_ONLY = 3
CPU = "CPUExecutionProvider"
WITHOUT_INT8_KERNELS = "session.disable_quant_qdq"


class OnnxRuntimeSession:
    """An ONNX file in ONNX Runtime; ``threads`` None means all cores.

    What the provider of ``backend`` does not know runs on the CPU. With ``trace``, the beginning of a path, ONNX
    Runtime writes down when each of its own operators ran. Raises UserError where it is not installed, lacks the
    provider or cannot open the file.
    """

    def __init__(
        self,
        bundle: "Bundle",
        threads: Optional[int] = None,
        backend: Backend = DEFAULT_BACKEND,
        trace: Optional[str] = None,
    ):
        self.manifest = bundle.manifest
        self.threads = thread_count(threads)
        provider = backend.provider.lower()
        self.runtime = "onnxruntime" if provider == "cpu" else f"onnxruntime-{provider}"
        self._path = bundle.model_path
        mend = "export it again or update onnxruntime"
        for_tensorrt = self.manifest.format == "tensorrt" or self.manifest.precision == "int8-tensorrt"
        self._session = open_onnx(self._path, self.threads, mend, provider, trace, exact=for_tensorrt)
        self.version = f"onnxruntime {_library(self._path).__version__}"
        self._input = _only(bundle, "inputs", self._session.get_inputs()).name
        self._outputs = _outputs(bundle, self._session.get_outputs())

    def run(self, inputs: Float32) -> Float32:
        """Raw heatmaps of normalised ``inputs``, see Session."""
        check_batch(inputs, self.manifest)
        found = [np.asarray(values, dtype=np.float32) for values in self._run(inputs)]
        return answer_of(found, self.manifest)

    def end_trace(self) -> str:
        """The path of the JSON of what ran when, which is written now; nothing is written down any more."""
        return str(self._session.end_profiling())

    def _run(self, inputs: Float32) -> Any:
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        try:
            return self._session.run(self._outputs, {self._input: inputs})
        except (
            ort_errors.InvalidArgument,
            ort_errors.Fail,
            ort_errors.EPFail,
            ort_errors.RuntimeException,
        ) as error:
            raise UserError(
                f"{self._path}: ONNX Runtime cannot run it on input of shape {inputs.shape}"
                f" ({str(error).splitlines()[0]}); export it again"
            ) from error

    def __enter__(self) -> "OnnxRuntimeSession":
        return self

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        error: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> None:
        del self._session


def _library(path: "Union[Path, str]") -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingLibraryError(path, "ONNX Runtime", "onnxruntime", "onnxruntime")
    return importlib.import_module("onnxruntime")


def open_onnx(
    path: "Union[Path, str]",
    threads: int,
    mend: str,
    provider: str = "cpu",
    trace: Optional[str] = None,
    exact: bool = False,
) -> Any:
    """ONNX Runtime's session of the file ``path``, which writes a ``trace`` where that is given.

    An ``exact`` one computes what lies between Q and DQ in float32, where the sums of int8's products are those of
    TensorRT: ONNX Runtime's own kernels let them saturate on x86 without VNNI. Raises UserError where it is not
    installed, lacks the provider, or cannot open the file: then ``mend`` is the way out.
    """
    onnxruntime = _library(path)
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if exact:
        options.add_session_config_entry(WITHOUT_INT8_KERNELS, "1")
    if trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = trace
    chosen = _provider(onnxruntime, provider)
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            sess_options=options,
            providers=[chosen] + [CPU] * (chosen != CPU),
            # Or it would begin anew on the CPU where the provider fails, under the provider's name.
            enable_fallback=0,
        )
        session.disable_fallback()
    except (
        ort_errors.Fail,
        ort_errors.EPFail,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.InvalidArgument,
        ort_errors.NotImplemented,
    ) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open it ({reason}); {mend}"
        ) from error
    # ONNX Runtime goes on without a provider that does not start, such as CUDA without a driver.
    if chosen not in session.get_providers():
        raise UserError(
            f"provider {provider}: ONNX Runtime {onnxruntime.__version__} has it but cannot start it here;"
            " mend its driver or libraries, or run with provider cpu"
        )
    return session


def _provider(onnxruntime: Any, name: str) -> str:
    """The full name of a provider, as in ``CUDAExecutionProvider`` for ``cuda``."""
    ending = "ExecutionProvider"
    known = {full[: -len(ending)].lower(): str(full) for full in onnxruntime.get_available_providers()}
    if name not in known:
        raise UserError(
            f"provider {name}: ONNX Runtime {onnxruntime.__version__} here has {', '.join(sorted(known))};"
            " choose one of them or install the build of onnxruntime that has it"
        )
    return known[name]


def _only(bundle: "Bundle", what: str, values: List[Any]) -> Any:
    """The one input or output of the model, float32."""
    if len(values) != 1 or values[0].type != "tensor(float)":
        found = ", ".join(f"{value.name} {value.type}" for value in values)
        raise UserError(
            f"{bundle.model_path}: its {what} are {found}; exactly one of float32 is needed, export it again"
        )
    return values[0]


def _outputs(bundle: "Bundle", values: List[Any]) -> List[str]:
    """The names of the heatmaps or the coordinates, or of the points and their scores."""
    if bundle.manifest.output != "points":
        wanted = bundle.manifest.output_name
        chosen = [value for value in values if wanted in (None, value.name)]
        return [_only(bundle, "outputs", chosen or values).name]
    by_rank = {len(value.shape): value.name for value in values if value.type == "tensor(float)"}
    if set(by_rank) != {2, 3} or len(values) != len(by_rank):
        found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)
        raise UserError(
            f"{bundle.model_path}: its outputs are {found}; points (N, K, 2) and scores (N, K) are needed, export it"
            " again"
        )
    return [by_rank[3], by_rank[2]]
