"""Quantisation-aware training: a network learns to bear int8, taught by its own float self.

Batches take turns at random between the two ways in which files round activations: signed and symmetric as TensorRT
does, and unsigned and asymmetric as LiteRT and ONNX Runtime do. Trained by one of them alone, a network learns its very
rounding, and is worse in the other. What is learnt is plain float weights, which every format's own quantiser takes;
they are rounded to 8 bits here, where the files for ONNX Runtime on CPUs have 7.
"""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from torch import Generator, Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from slimalign.compress.batches import Batch, TrainingFaces
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.losses import distillation_loss
from slimalign.compress.networks.supernet import HRSuperNet, operation_key
from slimalign.compress.recipe import AugmentRecipe, Schedule
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces
from slimalign.export.fold import norms_after_convolutions, scale_last_norm
from slimalign.export.onnx_tensorrt_int8 import INT8_MAX
from slimalign.export.rescue import Training
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.schemes import scheme_named

EPOCHS = 2
BATCH = 16
PEAK = 1e-5
"""Of the learning rate: what is learnt lies near the weights as they are."""
SEED = 0
STAGE = "qat"
FOLLOWING = 0.1
"""By which share a range follows the largest magnitude of each batch."""
LEAST = 1e-12
"""Keeps the scale of a tensor of zeros above zero."""


class FakeInt8(nn.Module):
    """Rounds to 256 steps between the extremes of the calibration's faces, or while training, of late.

    They follow the activations, as the calibration of the exported file will: in a fixed range a network learns to lean
    on what lies outside being cut off. Where it is not ``symmetric`` about 0 the range is that from least to largest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observing = True
        self.symmetric = True
        self.register_buffer("extremes", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        """The values of ``x``, as int8 has them."""
        extremes = self.get_buffer("extremes")
        seen = torch.stack(x.detach().aminmax())
        if self.observing:
            extremes.copy_(
                torch.stack([torch.minimum(extremes[0], seen[0]), torch.maximum(extremes[1], seen[1])])
            )
            return x
        if self.training:
            extremes.lerp_(seen, FOLLOWING)
        least, largest = extremes[0].clamp_max(0.0), extremes[1].clamp_min(0.0)
        if self.symmetric:
            scale = torch.maximum(-least, largest).clamp_min(LEAST) / INT8_MAX
            zero = torch.zeros((), dtype=torch.int32, device=x.device)
            return torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)
        scale = (largest - least).clamp_min(LEAST) / 255
        zero = torch.round(-least / scale).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)


class FakeInt8Conv(nn.Module):
    """A convolution whose input and weights are as int8 has them."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.taken = FakeInt8()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> what ``conv`` makes of it."""
        weight = self.conv.weight
        scales = weight.detach().abs().amax(dim=(1, 2, 3)).clamp_min(LEAST) / INT8_MAX
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -128, 127)
        found: Tensor = torch.func.functional_call(self.conv, {"weight": rounded}, (self.taken(x),))
        return found


class QuantisationAware(nn.Module):
    """``network`` computing as its int8 file will, with the same parameters; training this trains ``network``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        shared = {id(parameter): parameter for parameter in network.parameters()}
        self.network = copy.deepcopy(network, shared)
        for parent in list(self.network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Conv2d):
                    setattr(parent, name, FakeInt8Conv(child))
                elif isinstance(parent, nn.Sequential) and child is parent[-1]:
                    # What a sequence of layers ends with goes into an addition, which takes int8 too.
                    setattr(parent, name, nn.Sequential(child, FakeInt8()))

    def observe(self, inputs: Tensor) -> None:
        """Take the ranges of activations from ``inputs`` (N, 3, S, S), and round by them from then on."""
        with torch.no_grad():
            for images in inputs.split(BATCH):
                self.network(images)
        for fake in self._fakes():
            fake.observing = False

    def round_symmetrically(self, symmetric: bool) -> None:
        """Round activations as TensorRT does, or else as LiteRT and ONNX Runtime do."""
        for fake in self._fakes():
            fake.symmetric = symmetric

    def _fakes(self) -> list[FakeInt8]:
        return [module for module in self.modules() if isinstance(module, FakeInt8)]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> heatmaps (N, K, H, W)."""
        heatmaps: Tensor = self.network(images)
        return heatmaps

    def train(self, mode: bool = True) -> QuantisationAware:
        """The batch norms keep their statistics: what is trained is what will be deployed."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


@torch.no_grad()
def with_norms_in_convolutions(network: nn.Module) -> nn.Module:
    """A copy of ``network`` of the same class and function whose batch norms only add, and whose factors are 1.

    Its convolutions have the weights of the exported ones, which are what is rounded.
    """
    plain = copy.deepcopy(network).eval()
    if isinstance(plain, HRSuperNet):
        for index, op in enumerate(plain.architecture.operations):
            transform = plain.transforms[operation_key(op)]
            if not isinstance(transform, nn.Identity):
                scale_last_norm(transform, float(plain.factors[index]))
                plain.factors[index] = 1.0
    for parent, conv_name, norm_name in norms_after_convolutions(plain):
        conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
        fused = fuse_conv_bn_eval(conv, norm)
        conv.weight.copy_(fused.weight)
        norm.bias.copy_(fused.bias)
        if conv.bias is not None:
            conv.bias.zero_()
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0)
        norm.weight.fill_(math.sqrt(1.0 + norm.eps))
    return plain


def retrained(
    subject: ExportSubject, inputs: Tensor, faces: ExportFaces, folder: Path, progress: Progress
) -> nn.Module:
    """The network of ``subject`` after quantisation-aware training on ``faces``, of the same class and on the CPU.

    ``inputs`` (N, 3, S, S) are the calibration faces. Checkpoints and the log lie in ``folder``, by the network's
    weights and the faces: the same call goes on with a training that was broken off, after its last whole epoch.
    """
    fabric = Fabric(accelerator="auto", devices=1, precision="32-true")
    scheme = scheme_named(subject.scheme)
    network = with_norms_in_convolutions(subject.network)
    aware = QuantisationAware(network)
    aware.observe(inputs)
    rule = CropRule(subject.input_size, subject.box_scale)
    validation = ValidationFaces(faces.validation, rule, scheme, faces.normaliser, subject.decoder)
    with tempfile.TemporaryDirectory() as cache:
        training = _training_faces(subject, faces, Path(cache), fabric.device, progress)
        trainer = Trainer(fabric, training, folder, SEED, progress, batch_norm_momentum=0.0)
        _train(trainer, aware, subject.network, validation, f"{STAGE}-{_fingerprint(subject, inputs, faces)}")
    return network.cpu()


def _training_faces(
    subject: ExportSubject, faces: ExportFaces, folder: Path, device: torch.device, progress: Progress
) -> TrainingFaces:
    task = progress.add_task("decoding train", total=len(faces.training))
    cache = cached_faces(faces.training, subject.input_size, folder, lambda: progress.advance(task))
    progress.remove_task(task)
    scheme = scheme_named(subject.scheme)
    return TrainingFaces(cache, scheme, subject.input_size, subject.box_scale, AugmentRecipe(), device)


def _train(
    trainer: Trainer, aware: QuantisationAware, teacher: nn.Module, validation: ValidationFaces, name: str
) -> None:
    device = trainer.fabric.device
    module = trainer.set_up(aware)
    parameters = [p for layer in aware.modules() for p in _trained(layer)]
    optimizer = trainer.adam(parameters)
    teacher = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)

    def batch_loss(batch: Batch, rng: Generator) -> Tensor:
        aware.round_symmetrically(bool(torch.rand((), generator=rng) < 0.5))
        with torch.no_grad():
            taught = teacher(batch.images)
        return self_distillation_loss(taught, module(batch.images))

    def validate() -> dict[str, float]:
        aware.round_symmetrically(True)
        return {"val_nme": validation.nme(aware, device)}

    trainer.run(
        Stage(
            name=name,
            seed_name=STAGE,
            network=aware,
            passes=[
                TrainingPass(
                    "train", batch_loss, optimizer, parameters, Schedule(kind="one-cycle", peak=PEAK)
                )
            ],
            epochs=EPOCHS,
            batch=BATCH,
            remedy="export it without --qat",
            validate=validate,
        )
    )


def _trained(layer: nn.Module) -> list[nn.Parameter]:
    """What of ``layer`` is trained: all of convolutions, of batch norms what they add."""
    if isinstance(layer, nn.Conv2d):
        return list(layer.parameters())
    return [layer.bias] if isinstance(layer, nn.BatchNorm2d) else []


def self_distillation_loss(target: Tensor, predicted: Tensor) -> Tensor:
    """Equation 3 and, for decoders that read the values themselves, their squared error over their variance.

    Both are heatmaps (N, K, H, W), ``target`` those of the network in float32.
    """
    error = nn.functional.mse_loss(predicted, target) / target.var()
    return distillation_loss(target, predicted) + error


def _fingerprint(subject: ExportSubject, inputs: Tensor, faces: ExportFaces) -> str:
    """A name for the training: another network, other faces, crops or settings make another one."""
    crop = (subject.input_size, subject.box_scale, subject.scheme)
    digest = hashlib.sha256(repr((crop, EPOCHS, BATCH, PEAK, SEED)).encode())
    for sample in faces.training:
        digest.update(sample.name.encode() + sample.box.tobytes() + sample.points.tobytes())
    digest.update(inputs.numpy().tobytes())
    for name, tensor in subject.network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def training_of(faces: ExportFaces) -> Training:
    """What a bundle says of a training on ``faces``."""
    return Training(EPOCHS, BATCH, PEAK, SEED, len(faces.training))
