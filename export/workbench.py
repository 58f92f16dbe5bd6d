"""What the exports of one network share, each part made when it is first asked for."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from slimalign.compress.batches import MEAN, STD
from slimalign.compress.data.sample import Sample
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.decoding import InGraphDecoder
from slimalign.export.calibration import CalibrationSet, calibration_set
from slimalign.export.gate import Gate
from slimalign.export.litert_from_torch import write_litert
from slimalign.export.litert_quantised import Ranges, litert_ranges
from slimalign.export.onnx_from_torch import OPSETS, write_onnx
from slimalign.export.onnx_quantised import optimised_onnx
from slimalign.export.onnx_tensorrt_int8 import calibrated_largest
from slimalign.export.parity import ExpectedPoints, ties, torch_heatmaps, torch_points
from slimalign.export.subject import ExportSubject
from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.targets.target import OPSET

Image = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class ExportFaces:
    """Training faces that quantisation is calibrated on, validation faces that its files are judged on, and by what
    their NME is divided.
    """

    training: Sequence[Sample]
    validation: Sequence[Sample]
    normaliser: str


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """What the files of all formats have alike.

    With ``decode_inside`` they decode their heatmaps themselves; ``opset`` is that of ONNX files, one of OPSETS;
    ``batch`` is the only batch size that they take, None for any.
    """

    decode_inside: bool = False
    opset: int = OPSET
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise UserError(f"--batch {self.batch}: give a whole number of at least 1")
        if self.opset not in OPSETS:
            raise UserError(f"opset {self.opset}: choose one of {', '.join(map(str, OPSETS))}")


class Workbench:
    """One subject with its float32 files, its calibration and its gate.

    ``parity_crops`` (N, S, S, 3) uint8 RGB are faces on which float32 files are compared with PyTorch, ``faces`` what
    files of fewer bits need; ``gate`` judges them where it is not to be the subject's own.
    """

    def __init__(
        self,
        subject: ExportSubject,
        parity_crops: Image,
        faces: ExportFaces | None = None,
        options: GraphOptions | None = None,
        gate: Gate | None = None,
    ) -> None:
        network = copy.deepcopy(subject.network).cpu().float().eval()
        self.subject = dataclasses.replace(subject, network=network)
        self.parity_crops = parity_crops
        self._faces = faces
        self._options = options or GraphOptions()
        self._given_gate = gate

    def with_network(self, network: nn.Module) -> Workbench:
        """A bench for ``network`` in the subject's place, whose files are judged against the subject's."""
        subject = dataclasses.replace(self.subject, network=network)
        return Workbench(subject, self.parity_crops, self._faces, self._options, self.gate)

    def manifest(self, format_name: str, precision: str, layout: str) -> Manifest:
        """What the bundle of a file says of it before there is one."""
        subject = self.subject
        return Manifest(
            name=subject.name,
            model="",
            format=format_name,
            precision=precision,
            input_size=subject.input_size,
            box_scale=subject.box_scale,
            layout=layout,
            mean=MEAN,
            std=STD,
            scheme=subject.scheme,
            decoder=subject.decoder,
            stride=subject.stride,
            batch=self._batch(format_name),
            files={},
            output="points" if self.gives_points(format_name) else "heatmaps",
        )

    def _batch(self, format_name: str) -> int | None:
        """The only batch size that files of a format take; a PyTorch bundle is a network, and takes any."""
        # The shapes that a LiteRT file's points are laid out in are constants.
        if format_name == "litert" and self.gives_points(format_name):
            return self._options.batch or 1
        return None if format_name == "torch" else self._options.batch

    def gives_points(self, format_name: str) -> bool:
        """Whether files of a format give points: those of a cascade do, others where they decode their heatmaps
        themselves. A PyTorch bundle is a network, and does not decode.
        """
        if isinstance(self.subject.network, Cascade):
            return True
        return self._options.decode_inside and format_name != "torch"

    def decodes_inside(self, format_name: str) -> bool:
        """Whether a file of a format, which could give heatmaps, gives points."""
        return self._decodes and format_name != "torch"

    @property
    def _decodes(self) -> bool:
        """Whether a decoder is put behind the network, which gives heatmaps."""
        return self._options.decode_inside and not isinstance(self.subject.network, Cascade)

    @cached_property
    def heatmaps(self) -> Float32:
        """PyTorch's heatmaps of the parity crops, (N, K, H, W)."""
        return torch_heatmaps(self.subject.network, self.parity_crops, self.manifest("torch", "fp32", "NCHW"))

    @cached_property
    def points(self) -> ExpectedPoints:
        """PyTorch's points of the parity crops."""
        manifest = self.manifest("torch", "fp32", "NCHW")
        return torch_points(self.subject.network, self.parity_crops, manifest, self.heatmaps)

    @cached_property
    def flat(self) -> bool:
        """Whether no heatmap of the parity crops has a peak, as those of an untrained network: it finds no points."""
        return bool(ties(self.heatmaps, self.subject.decoder, 0.0).all())

    @cached_property
    def onnx(self) -> Path:
        """The network as ONNX in float32."""
        path = self._folder / "float.onnx"
        subject, decoder = self.subject, None
        if self._decodes:
            decoder = InGraphDecoder(subject.decoder, subject.input_size // subject.stride, subject.stride)
        options = self._options
        write_onnx(subject.network, subject.input_size, path, decoder, options.opset, options.batch)
        return path

    @cached_property
    def onnx_optimised(self) -> Path:
        """The ONNX file from which both int8 schemes start."""
        path = self._folder / "optimised.onnx"
        optimised_onnx(self.onnx, path)
        return path

    @cached_property
    def onnx_largest(self) -> dict[str, float]:
        """The largest magnitude on the calibration faces of each tensor that TensorRT's scheme may quantise."""
        return calibrated_largest(self.onnx_optimised, self.calibration_batches("NCHW"))

    @cached_property
    def litert(self) -> Path:
        """The network as LiteRT in float32, with the converter's long names of tensors."""
        path = self._folder / "float.tflite"
        decoder = self.subject.decoder if self._decodes else None
        write_litert(self.subject.network, self.subject.input_size, path, decoder, self._options.batch or 1)
        return path

    @cached_property
    def calibration(self) -> CalibrationSet:
        """The faces that all quantised files of the subject are calibrated on."""
        rule = CropRule(self.subject.input_size, self.subject.box_scale)
        return calibration_set(self.faces.training, rule)

    @cached_property
    def gate(self) -> Gate:
        """The judge of files of fewer bits."""
        if self._given_gate is not None:
            return self._given_gate
        return Gate(self.subject, self.faces.validation, self.faces.normaliser)

    def calibration_inputs(self, layout: str) -> Float32:
        """The calibration faces as the network takes them: (N, 3, S, S) for NCHW, (N, S, S, 3) for NHWC."""
        return network_inputs(self.calibration.crops, self.manifest("", "", layout))

    def calibration_batches(self, layout: str) -> list[Float32]:
        """The same in batches that the files take; the last is filled up with the first faces."""
        inputs, size = self.calibration_inputs(layout), self._options.batch or 1
        filled = np.resize(np.arange(len(inputs)), -(-len(inputs) // size) * size)
        return [inputs[chosen] for chosen in filled.reshape(-1, size)]

    @cached_property
    def litert_ranges(self) -> Ranges:
        """The ranges of the LiteRT file's tensors on the calibration faces."""
        return litert_ranges(self.litert, self.calibration_batches("NHWC"))

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    @property
    def has_faces(self) -> bool:
        """Whether faces were given."""
        return self._faces is not None

    @property
    def faces(self) -> ExportFaces:
        """The faces that were given; raises UserError where there are none."""
        if self._faces is None:
            raise UserError(
                f"bundle '{self.subject.name}': files of fewer bits are calibrated and judged on faces; give them with "
                "--data"
            )
        return self._faces
