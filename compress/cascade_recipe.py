"""The recipe of a cascade: its heatmap network, its stages of regression, and how both are trained together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Tag, model_validator

from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.networks.cascade import BackwardName
from slimalign.compress.networks.cascade_shape import CascadeShape, HourglassShape, RegressionShape
from slimalign.compress.recipe import (
    CommonRecipe,
    GivenTeacher,
    Part,
    PositiveFloat,
    TrainingRecipe,
    Weight,
    holder,
)


class StudentHeatmap(Part):
    """A trained student as the heatmap network: the PyTorch bundle in the folder ``bundle``."""

    bundle: str


AnyHeatmap = Annotated[
    Annotated[StudentHeatmap, Tag("StudentHeatmap")] | Annotated[HourglassShape, Tag("HourglassShape")],
    holder("bundle", "StudentHeatmap", "HourglassShape"),
]


class CascadeTrainingRecipe(TrainingRecipe):
    """Training by equation 8: ``backward`` names the connections (figure 5), ``last_weight`` is the last stage's alpha;
    all others are 1. ``teacher_weight`` is that of what the teacher says beside the ground truth.
    """

    optimiser: Literal["adam", "sgd"] = "sgd"
    backward: BackwardName = "ccr"
    last_weight: PositiveFloat = 3.0
    teacher_weight: Weight = 0.0

    def task_weights(self, stages: int) -> tuple[float, ...]:
        """The fixed weights alpha_t: of the heatmaps, then of each stage."""
        return (1.0, *(1.0 for _ in range(stages - 1)), *([self.last_weight] if stages else []))


class CascadeRecipe(CommonRecipe):
    """A cascade's whole recipe. ``alone`` also trains the heatmap network without stages, to compare (table 9).

    From a ``teacher`` all tasks learn as much as ``training.teacher_weight`` says.
    """

    loss: Literal["adaptive-wing", "softmax"] = "adaptive-wing"
    heatmap: AnyHeatmap = HourglassShape()
    regression: RegressionShape = RegressionShape()
    training: CascadeTrainingRecipe
    teacher: GivenTeacher | None = None
    alone: bool = False

    @model_validator(mode="after")
    def _fits(self) -> CascadeRecipe:
        if isinstance(self.heatmap, HourglassShape):
            multiple = self.heatmap.input_multiple
            if self.input.size % multiple:
                raise ValueError(f"input.size = {self.input.size}, must be a multiple of {multiple}")
            smallest = self.input.size // multiple
            if self.training.batch * smallest**2 < 2:
                raise ValueError(
                    f"training.batch = {self.training.batch}, batch norm needs more than one value, and the "
                    f"hourglass's lowest level has 1x1 at input.size = {self.input.size}; raise either"
                )
        if (self.loss == "softmax") != (self.decoder == "local-softmax"):
            raise ValueError(
                f"decoder = {self.decoder}: loss = softmax makes logits, which local-softmax reads and no other; "
                "adaptive-wing makes heatmaps for argmax-quarter or local-mean"
            )
        if (self.teacher is None) != (self.training.teacher_weight == 0):
            raise ValueError(
                f"training.teacher_weight = {self.training.teacher_weight:g}: give it and [teacher], or neither"
            )
        if self.loss == "softmax" and isinstance(self.heatmap, HourglassShape) and self.heatmap.boundary:
            raise ValueError("loss = softmax: a boundary has no single place; set heatmap.boundary = false")
        return self

    def shape(self, landmarks: int, student: Architecture | None = None) -> CascadeShape:
        """The network's shape; ``student`` is the architecture in ``heatmap.bundle``, where one is named."""
        heatmap = student or self.heatmap
        assert not isinstance(heatmap, StudentHeatmap)
        return CascadeShape(
            landmarks=landmarks,
            input_size=self.input.size,
            decoder=self.decoder,
            heatmap=heatmap,
            regression=self.regression,
        )
