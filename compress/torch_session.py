"""Bundles in PyTorch, eager on the CPU: the reference that the deployed files are measured against."""

from __future__ import annotations

from types import TracebackType

import torch

from slimalign.compress.torch_files import read_network
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Float32, answer_of, check_batch, thread_count


class TorchSession:
    """A bundle of format ``torch``; ``threads`` None means all cores.

    PyTorch has one number of threads for the whole process: it is set at every run, so that sessions with
    different numbers can take turns, and put back when the session closes.
    """

    runtime = "pytorch"

    def __init__(self, bundle: Bundle, threads: int | None = None, backend: Backend = DEFAULT_BACKEND):
        self.manifest = bundle.manifest
        self.version = f"torch {torch.__version__}"
        self.threads = thread_count(threads)
        self.network = read_network(bundle.folder)
        self._threads_before = torch.get_num_threads()

    def run(self, inputs: Float32) -> Float32:
        """Raw outputs of normalised ``inputs``, see Session."""
        check_batch(inputs, self.manifest)
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        # PyTorch warns of arrays that it must not write to.
        writable = inputs if inputs.flags.writeable else inputs.copy()
        with torch.inference_mode():
            found = self.network(torch.from_numpy(writable))
        outputs = found if isinstance(found, tuple) else (found,)
        return answer_of([output.numpy() for output in outputs], self.manifest)

    def __enter__(self) -> TorchSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads_before)
        del self.network
