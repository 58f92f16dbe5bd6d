"""The recipe: one TOML file that says how a network is trained, searched, slimmed and distilled."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from slimalign.compress.networks.architecture import Architecture, full_architecture
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import NormaliserName

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

DecoderName = Literal["argmax-quarter", "local-mean", "local-softmax"]
"""Those of runtimes.decode, which has none of typing's newer names."""


class Part(BaseModel):
    """A part of a recipe: plain data that is checked, and has no other entries."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DrawnRecipe(Part):
    """How many faces are drawn for each split, and the seed of the first."""

    train: PositiveInt = 600
    val: PositiveInt = 100
    test: PositiveInt = 100
    size: PositiveInt = 256
    seed: int = 0


class DataRecipe(Part):
    """Where faces come from: a data set's format and its splits, or ``drawn`` with faces drawn for each split.

    ``scheme`` is the landmark scheme of the faces, ``normaliser`` what the NME of all choices and of the waterfall
    is divided by.
    """

    format: str
    train: str = "train"
    val: str = "val"
    test: str = "test"
    scheme: Literal["300w-68", "wflw-98", "cofw-29", "aflw-19"] = "300w-68"
    normaliser: NormaliserName = "inter-ocular"
    drawn: DrawnRecipe = DrawnRecipe()


class InputRecipe(Part):
    """The network's input, in pixels, and the sigma of ground-truth Gaussians, in heatmap pixels."""

    size: PositiveInt = 256
    box_scale: Annotated[float, Field(ge=1, le=1.6)] = 1.25
    sigma: PositiveFloat = 1.0


class AugmentRecipe(Part):
    """Random changes: scale and shift as shares, rotation in degrees, probabilities of rotation and flip.

    With ``appearance`` each face is also changed in one of the ways of CHS, see compress.appearance; ``occlusion`` is
    the largest share of its area that is covered.
    """

    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    rotation_probability: Share = 0.6
    flip: Share = 0.5
    shift: Share = 0.0
    colour: Share = 0.3
    appearance: bool = False
    occlusion: Share = 0.0


class MaskRecipe(Part):
    """The students' masks: how often one is drawn, and its share of the image's area."""

    probability: Share = 0.5
    area: tuple[Share, Share] = (0.02, 0.10)

    @property
    def covers(self) -> bool:
        """Whether anything is ever covered."""
        return self.probability > 0 and self.area[1] > 0

    @model_validator(mode="after")
    def _area_in_order(self) -> MaskRecipe:
        if self.area[0] > self.area[1]:
            raise ValueError(f"area = {list(self.area)}, give the smallest share first")
        return self


class Schedule(Part):
    """Learning rate over a stage of training.

    ``steps``: constant, times ``factor`` at each milestone (an epoch). ``one-cycle``: rises over the first tenth,
    then falls to nothing along a cosine.
    """

    kind: Literal["steps", "one-cycle"]
    peak: PositiveFloat
    milestones: tuple[PositiveInt, ...] = ()
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _milestones_count(self) -> Schedule:
        if self.milestones and self.kind != "steps":
            raise ValueError(f"milestones belong to kind = 'steps', not to '{self.kind}'; leave them out")
        return self


class TrainingRecipe(Part):
    """Length of a stage of training, the batch size of one process, and what its optimiser (Adam) needs."""

    epochs: PositiveInt
    batch: PositiveInt = 16
    learning_rate: Schedule
    weight_decay: Weight = 0.0


class TeacherRecipe(TrainingRecipe):
    """The teacher's training; it is an HRNetV2 whose first branch has ``width`` channels."""

    width: PositiveInt = 18


class GivenTeacher(Part):
    """A teacher that is trained already: the PyTorch bundle in the folder ``bundle``, of any network."""

    bundle: str


def holder(key: str, with_key: str, without: str) -> Discriminator:
    """Which of two kinds of part entries are of: that ``with_key``, or the one ``without`` it."""

    def kind(value: Any) -> str:
        has_key = key in value if isinstance(value, Mapping) else hasattr(value, key)
        return with_key if has_key else without

    return Discriminator(kind)


AnyTeacher = Annotated[
    Annotated[TeacherRecipe, Tag("TeacherRecipe")] | Annotated[GivenTeacher, Tag("GivenTeacher")],
    holder("bundle", "GivenTeacher", "TeacherRecipe"),
]


class SearchRecipe(TrainingRecipe):
    """The supernet's shape and the alternating training of algorithm 1.

    ``sparsity`` is lambda of equation 2; the factors start at ``initial_factor``.
    """

    factor_learning_rate: PositiveFloat
    sparsity: Weight
    initial_factor: PositiveFloat = 1.0
    stem_width: PositiveInt = 64
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (18, 36, 72, 144)
    stage_count: Annotated[int, Field(ge=2)] = 10
    encoders: PositiveInt = 4
    head_width: PositiveInt | None = None

    def supernet(self, landmarks: int, input_size: int) -> Architecture:
        """The architecture that keeps every operation."""
        return full_architecture(
            landmarks,
            input_size,
            self.stem_width,
            self.widths,
            self.stage_count,
            self.encoders,
            self.head_width,
        )


class BaselineRecipe(TrainingRecipe):
    """Puts the search to the proof: ``count`` random architectures of the student's multiply-adds are trained
    from scratch on the ground truth, and the found architecture alike.
    """

    count: PositiveInt = 3


ImportanceName = Literal["contribution", "absolute"]
"""What an operation adds to its block, |a| times the spread of what it weighs; or |a| itself as in the paper."""


class SlimRecipe(Part):
    """How far to cut: all below a threshold on the importance, or the least important operations until a budget is met.

    A budget spares operations that alone connect the network, however little they count for.
    ``importance`` is what an operation's factor counts for. ``max_gmacs`` are multiply-adds of the whole student,
    head included, at the recipe's input size; ``max_ms`` are milliseconds by the table in the file ``latency_table``,
    which 'slimalign latency-table' measured.
    """

    importance: ImportanceName = "contribution"
    threshold: PositiveFloat | None = None
    max_gmacs: PositiveFloat | None = None
    max_params: PositiveInt | None = None
    max_ms: PositiveFloat | None = None
    latency_table: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> SlimRecipe:
        budgets = (self.max_gmacs, self.max_params, self.max_ms)
        if (self.threshold is None) == (budgets == (None, None, None)):
            raise ValueError("give either threshold, or max_gmacs, max_params and/or max_ms")
        if self.max_ms is not None and self.latency_table is None:
            raise ValueError(
                f"max_ms = {self.max_ms:g}: by which latency_table? Make one with 'slimalign latency-table'"
            )
        return self


class DistilRecipe(TrainingRecipe):
    """Triple distillation, equation 4: weights of the ensemble's (l1) and the teacher's (l2) divergence.

    A part that counts for nothing is left out: with ``ensemble_weight = 0`` the student has no peer, with
    ``teacher_weight = 0`` no teacher, with ``mask.probability = 0`` no masks, and without peer and teacher it is
    fine-tuned on the ground truth alone. ``ablation`` also trains the rows of table 6 that leave out masks, the peer
    and the teacher.
    """

    ensemble_weight: Weight
    teacher_weight: Weight
    mask: MaskRecipe = MaskRecipe()
    ablation: bool = False

    @model_validator(mode="after")
    def _ablation_has_parts(self) -> DistilRecipe:
        if self.ablation and not (self.teacher_weight and self.ensemble_weight and self.mask.covers):
            raise ValueError(
                "ablation = true leaves out one part of the distillation after another; give ensemble_weight, "
                "teacher_weight and mask.probability above 0"
            )
        return self


FormatName = Literal[
    "onnx",
    "onnx-fp16",
    "onnx-int8",
    "onnx-int8-tensorrt",
    "litert",
    "litert-fp16",
    "litert-dynamic",
    "litert-int8",
    "litert-int8-io",
    "litert-int16x8",
]
"""The formats of ``export`` that can be measured where they are made."""


class ExportRecipe(Part):
    """The formats that the best student is exported in."""

    formats: tuple[FormatName, ...] = ("onnx", "litert")


class CommonRecipe(Part):
    """What all recipes have, whatever network they train.

    ``batch_norm_momentum`` is HRNet's 0.01 unless a recipe is so short that running statistics would lag behind.
    """

    name: str
    seed: int = 0
    decoder: DecoderName
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    batch_norm_momentum: Annotated[float, Field(gt=0, lt=1)] = 0.01
    data: DataRecipe
    input: InputRecipe = InputRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    export: ExportRecipe = ExportRecipe()


class Recipe(CommonRecipe):
    """A whole recipe of SD-HRNet; see the shipped ones for an example of each part.

    A recipe whose distillation needs no teacher has none.
    """

    loss: Literal["mse", "softmax"]
    teacher: AnyTeacher | None = None
    search: SearchRecipe
    slim: SlimRecipe
    distil: DistilRecipe
    baseline: BaselineRecipe | None = None

    @model_validator(mode="after")
    def _input_fits(self) -> Recipe:
        multiple = 4 * 2 ** (len(self.search.widths) - 1)
        if self.input.size % max(multiple, 32):
            raise ValueError(f"input.size = {self.input.size}, must be a multiple of {max(multiple, 32)}")
        return self

    @model_validator(mode="after")
    def _teacher_is_needed(self) -> Recipe:
        weight = self.distil.teacher_weight
        if self.teacher is None and weight:
            raise ValueError(
                f"distil.teacher_weight = {weight:g}: by which teacher? Add [teacher], or set the weight to 0"
            )
        if self.teacher is not None and not weight:
            raise ValueError(
                "distil.teacher_weight = 0: nothing learns from the teacher; leave [teacher] out"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_normalised(self) -> Recipe:
        searched = len(self.search.widths)
        for name, levels in {
            "teacher": 4,
            "search": searched,
            "distil": searched,
            "baseline": searched,
        }.items():
            stage = getattr(self, name)
            if not isinstance(stage, TrainingRecipe):
                continue
            batch, smallest = stage.batch, self.input.size // (4 * 2 ** (levels - 1))
            if batch * smallest**2 < 2:
                raise ValueError(
                    f"{name}.batch = {batch}, batch norm needs more than one value, and the lowest level has 1x1 at "
                    f"input.size = {self.input.size}; raise either"
                )
        return self


def slim_recipe(
    threshold: float | None,
    max_gmacs: float | None,
    max_params: int | None,
    max_ms: float | None = None,
    latency_table: str | None = None,
) -> SlimRecipe:
    """How far to cut, from a threshold or a budget; raises UserError for a value that will not do."""
    try:
        return SlimRecipe(
            threshold=threshold,
            max_gmacs=max_gmacs,
            max_params=max_params,
            max_ms=max_ms,
            latency_table=latency_table,
        )
    except ValidationError as error:
        raise UserError(f"slim: {first_fault(SlimRecipe, error)}") from None


def first_fault(whole: type[BaseModel], error: ValidationError) -> str:
    """One fault in words; an entry that does not exist goes first, for it may be the one that is missing."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    where = ".".join(map(str, _entries(fault["loc"])))
    unknown = fault["type"] == "extra_forbidden"
    meant = _meant(whole, fault["loc"]) if unknown else None
    # The entry that was meant is missing: the same fault once more.
    others = [one for one in faults[1:] if meant is None or one["loc"] != (*fault["loc"][:-1], meant)]
    more = f" (and {len(others)} more)" if others else ""
    if unknown:
        hint = f"; did you mean {meant}?" if meant else ""
        return f"{where}: there is no such entry{hint}{more}"
    shown = fault["input"] if isinstance(fault["input"], (str, int, float, bool, list)) else None
    value = f" = {shown}" if shown is not None else ""
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}{value}: {message}{more}" if where else f"{message}{more}"


def _entries(location: tuple[str | int, ...]) -> list[str | int]:
    """The names on the way to an entry, without those of kinds of parts, which begin with a capital."""
    return [part for part in location if not str(part)[:1].isupper()]


def _meant(whole: type[BaseModel], location: tuple[str | int, ...]) -> str | None:
    """The name of an entry that is near the unknown one at ``location``."""
    part, kinds = whole, [whole]
    for name in map(str, location[:-1]):
        if name in part.model_fields:
            kinds = _kinds(part.model_fields[name].annotation)
            part = kinds[0]
        else:
            part = next(kind for kind in kinds if kind.__name__ == name)
    return next(iter(difflib.get_close_matches(str(location[-1]), part.model_fields, 1)), None)


def _kinds(annotation: Any) -> list[type[BaseModel]]:
    """The kinds of parts that an entry may be; one that may be left out is a union with None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _kinds(part)]
