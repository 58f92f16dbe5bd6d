"""The parts that the supernet, its students and HRNet share."""

from __future__ import annotations

from torch import Tensor, nn

BN_MOMENTUM = 0.01


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with HRNet's momentum."""
    return nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)


def conv3x3(source: int, target: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size, or halves it with stride 2."""
    return nn.Conv2d(source, target, 3, stride, 1, bias=False)


def stem(width: int) -> nn.Sequential:
    """Two 3x3 stride-2 convolutions: images (N, 3, S, S) -> (N, width, S/4, S/4)."""
    return nn.Sequential(
        conv3x3(3, width, 2),
        batch_norm(width),
        nn.ReLU(),
        conv3x3(width, width, 2),
        batch_norm(width),
        nn.ReLU(),
    )


def transformation(source: int, target: int, source_width: int, target_width: int) -> nn.Module:
    """From level ``source`` to level ``target``, all but the upsampling: T of equation 1, HRNet's fusion.

    Down: 3x3 stride-2 convolutions, widening in the last, BN + ReLU between, BN alone at the end.
    Up: 1x1 + BN at the source's resolution. Same level: identity, or a 3x3 + BN where the width changes.
    """
    if source > target:
        return nn.Sequential(nn.Conv2d(source_width, target_width, 1, bias=False), batch_norm(target_width))
    if source == target and source_width == target_width:
        return nn.Identity()
    if source == target:
        return nn.Sequential(conv3x3(source_width, target_width), batch_norm(target_width))
    layers: list[nn.Module] = []
    for _ in range(target - source - 1):
        layers += [conv3x3(source_width, source_width, 2), batch_norm(source_width), nn.ReLU()]
    return nn.Sequential(*layers, conv3x3(source_width, target_width, 2), batch_norm(target_width))


def upsample(x: Tensor, steps: int) -> Tensor:
    """Enlarge by 2^steps, bilinear with half-pixel centres."""
    if steps == 0:
        return x
    return nn.functional.interpolate(x, scale_factor=float(2**steps), mode="bilinear", align_corners=False)
