"""The shape of a cascade, as plain data that is saved as JSON: its heatmap network, and how its stages regress."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slimalign.compress.networks.architecture import STRIDE, Architecture
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.errors import UserError

MOST_STAGES = 9


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HourglassShape(_Part):
    """CHS's heatmap network (Sensors 2023, 23, 4731, section 3.3), with its widths in channels.

    ``branches`` blocks of ``branch_width`` follow the first of ``stem_width`` and are weighed against one another;
    without ``selective`` it is AWing's own front, of two blocks. ``boundary`` adds one heatmap of all boundaries.
    """

    hourglasses: int = Field(default=4, gt=0)
    depth: int = Field(default=4, gt=0)
    width: int = Field(default=256, gt=0, multiple_of=4)
    stem_width: int = Field(default=64, gt=0)
    branch_width: int = Field(default=128, gt=0, multiple_of=4)
    branches: int = Field(default=3, gt=0)
    selective: bool = True
    selective_width: int = Field(default=64, gt=0)
    excitation: int = Field(default=32, gt=0)
    boundary: bool = True

    @property
    def input_multiple(self) -> int:
        """The input size must be a multiple of this."""
        return int(STRIDE * 2**self.depth)


class RegressionShape(_Part):
    """The stages of coordinate regression: how many, and their widths in channels.

    Each samples ``side`` x ``side`` values about each landmark out of ``features`` channels, which a selective feature
    module with ``selective_width`` inner channels chooses, guided by the heatmaps; where they are not ``selective``
    they are the sum of a 1x1 convolution of each branch. ``width`` channels has a landmark's block. What goes into the
    fully connected layer are two planes of each region, or so many ``numbers`` that a convolution makes of all of it:
    the layer is then a fraction of its size. Landmarks have weights of their own, or one set that they have ``shared``.
    """

    stages: int = Field(default=4, ge=0, le=MOST_STAGES)
    side: int = Field(default=5, gt=0)
    features: int = Field(default=128, gt=0)
    selective: bool = True
    selective_width: int = Field(default=64, gt=0)
    excitation: int = Field(default=32, gt=0)
    width: int = Field(default=128, gt=0)
    numbers: int | None = Field(default=None, gt=0)
    shared: bool = False


class CascadeShape(_Part):
    """A heatmap network, ``heatmap``, followed by coordinate regression; ``decoder`` reads the first landmarks.

    The heatmap network is stacked hourglasses, or a student of the supernet by its architecture.
    """

    landmarks: int = Field(gt=0)
    input_size: int = Field(default=256, gt=0)
    decoder: str = "argmax-quarter"
    heatmap: Architecture | HourglassShape = HourglassShape()
    regression: RegressionShape = RegressionShape()

    @model_validator(mode="after")
    def _sound(self) -> CascadeShape:
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder '{self.decoder}' is unknown; choose one of {', '.join(DECODERS)}")
        multiple = self.heatmap.input_multiple
        if self.input_size % multiple:
            raise ValueError(f"input_size = {self.input_size}, must be a multiple of {multiple}")
        if isinstance(self.heatmap, Architecture) and (
            self.heatmap.landmarks != self.landmarks or self.heatmap.input_size != self.input_size
        ):
            raise ValueError("heatmap: its landmarks and input_size must be those of the cascade")
        return self

    @property
    def heatmaps(self) -> int:
        """Of the landmarks, and of the boundary where there is one."""
        has_boundary = isinstance(self.heatmap, HourglassShape) and self.heatmap.boundary
        return self.landmarks + int(has_boundary)

    @property
    def branch_widths(self) -> list[int]:
        """Channels of what the heatmap network hands to the stages, the first at 1/4 of the input size."""
        if isinstance(self.heatmap, Architecture):
            levels = self.heatmap.output_levels
            return [self.heatmap.stem_width, *(self.heatmap.widths[level] for level in levels)]
        if self.heatmap.selective:
            return [self.heatmap.branch_width] * self.heatmap.branches
        return [self.heatmap.branch_width, self.heatmap.width]

    @property
    def branch_steps(self) -> list[int]:
        """By how many powers of 2 each of them is smaller than the first."""
        levels = self.heatmap.output_levels if isinstance(self.heatmap, Architecture) else ()
        return [0, *levels] if levels else [0] * len(self.branch_widths)

    def at(self, landmarks: int, input_size: int) -> CascadeShape:
        """The same for another number of landmarks and at another input size."""
        sizes = {"landmarks": landmarks, "input_size": input_size}
        heatmap = self.heatmap.model_dump() | (sizes if isinstance(self.heatmap, Architecture) else {})
        return CascadeShape.model_validate({**self.model_dump(), **sizes, "heatmap": heatmap})

    def keeping(self, stages: int) -> CascadeShape:
        """The same with the first ``stages`` stages alone; raises UserError where there are fewer."""
        if not 0 <= stages <= self.regression.stages:
            raise UserError(
                f"--keep-stages {stages}: the cascade has {self.regression.stages}, give 0 to that"
            )
        return self.model_copy(update={"regression": self.regression.model_copy(update={"stages": stages})})


def read_cascade_shape(path: Path) -> CascadeShape:
    """Read a cascade's JSON; raises UserError with the file, the entry and the reason."""
    try:
        return CascadeShape.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the JSON of a cascade") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path}: {where}: {first['msg']}") from None
