"""Equation 4 against slow NumPy; algorithm 1 and the distillation train what they should and nothing else."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from rich.progress import Progress

from slimalign.compress.batches import TrainingFaces, seeded
from slimalign.compress.checkpoint import read_checkpoint
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.distil import ABLATION, Switches, TripleLoss, distil
from slimalign.compress.losses import MseLoss, SoftmaxLoss
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet, weights_of
from slimalign.compress.recipe import AugmentRecipe, DistilRecipe, Schedule, SearchRecipe
from slimalign.compress.search import search
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import AFLW

N, M, SIZE = 2, 3, 6
SCHEDULE = Schedule(kind="one-cycle", peak=1e-3)


def softmax(heatmap):
    return np.exp(heatmap) / np.exp(heatmap).sum()


def kd(target, predicted):
    """Equation 3 in NumPy."""
    pairs = [(softmax(target[n, m]), softmax(predicted[n, m])) for n in range(N) for m in range(M)]
    return sum((p2 * np.log(p2 / p1)).sum() for p2, p1 in pairs) / (N * M)


def test_the_triple_loss_is_equation_4():
    rng = np.random.default_rng(0)
    s1, s2, teacher = rng.normal(size=(3, N, M, SIZE, SIZE))
    points = rng.uniform(0, 4 * SIZE, (N, M, 2))
    ensemble = (s1 + s2) / 2
    truth = MseLoss(4, 1.0)
    tensors = [torch.from_numpy(array) for array in (s1, s2)]
    expected = sum(
        truth(torch.from_numpy(s), torch.from_numpy(points)).item()
        + 4.0 * kd(ensemble, s)
        + 0.25 * kd(teacher, s)
        for s in (s1, s2)
    )
    found = TripleLoss(truth, 4.0, 0.25)(tensors, torch.from_numpy(points), torch.from_numpy(teacher))
    assert found.item() == pytest.approx(expected)


def test_no_gradient_flows_through_the_ensemble():
    """P_E is a target: each student's gradient equals that of its own terms with the ensemble held fixed."""
    rng = np.random.default_rng(1)
    first, second = (torch.from_numpy(rng.normal(size=(N, M, SIZE, SIZE))).requires_grad_() for _ in range(2))
    points = torch.from_numpy(rng.uniform(0, 4 * SIZE, (N, M, 2)))
    TripleLoss(MseLoss(4, 1.0), 1.0, 0.0)([first, second], points, None).backward()
    ensemble = ((first + second) / 2).detach()
    alone = first.detach().clone().requires_grad_()
    log = alone.flatten(2).log_softmax(2)
    target = ensemble.flatten(2).softmax(2)
    (MseLoss(4, 1.0)(alone, points) - (target * log).sum(2).mean()).backward()
    torch.testing.assert_close(first.grad, alone.grad)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    samples = drawn_samples(16, AFLW, 0, 64)
    cache = cached_faces(samples, 64, tmp_path_factory.mktemp("cache"))
    return TrainingFaces(cache, AFLW, 64, 1.25, AugmentRecipe(), torch.device("cpu"))


@pytest.fixture(scope="module")
def validation():
    return ValidationFaces(drawn_samples(2, AFLW, 9, 64), CropRule(64), AFLW, "inter-ocular", "local-softmax")


def trainer(faces, folder):
    return Trainer(Fabric(accelerator="cpu", devices=1), faces, folder, 0, Progress(disable=True), 0.1)


def test_algorithm_1_trains_factors_and_weights_in_turn(
    small_architecture, faces, validation, tmp_path, monkeypatch
):
    """What each optimiser step of an epoch changes: first only factors, then only weights."""
    supernet = HRSuperNet(small_architecture)
    recipe = SearchRecipe(
        epochs=1,
        batch=8,
        learning_rate=SCHEDULE,
        factor_learning_rate=1e-2,
        sparsity=1e-3,
        initial_factor=0.5,
    )
    changes = []
    step = torch.optim.Adam.step

    def watched(self, *args, **kwargs):
        factors = supernet.factors.clone()
        weights = {n: p.clone() for n, p in supernet.named_parameters() if p is not supernet.factors}
        result = step(self, *args, **kwargs)
        same = all(torch.equal(p, weights[n]) for n, p in supernet.named_parameters() if n in weights)
        changes.append((not torch.equal(factors, supernet.factors), not same))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    search(trainer(faces, tmp_path), supernet, recipe, SoftmaxLoss(4, 1.0), validation)
    assert changes == [(True, False)] * 2 + [(False, True)] * 2


class Watching(Trainer):
    """Trains nothing and keeps the stage that it was given."""

    def run(self, stage):
        self.stage = stage


def test_the_search_minimises_equation_2(small_architecture, faces, validation, tmp_path):
    """mean over N, M of MSE(P, G) + lambda sum |a|, in both passes of an epoch."""
    supernet = HRSuperNet(small_architecture)
    watching = Watching(Fabric(accelerator="cpu", devices=1), faces, tmp_path, 0, Progress(disable=True), 0.1)
    recipe = SearchRecipe(
        epochs=1, batch=8, learning_rate=SCHEDULE, factor_learning_rate=1e-2, sparsity=0.3, initial_factor=0.5
    )
    search(watching, supernet, recipe, MseLoss(4, 1.5), validation)
    with torch.no_grad():
        supernet.factors.copy_(torch.linspace(-1, 1, len(supernet.factors)))
    supernet.eval()  # batch statistics would be other ones at each pass
    batch = next(iter(faces.batches(8, seeded(0))))
    heatmaps = supernet(batch.images).detach().numpy()
    y, x = np.mgrid[:16, :16]
    squares = []
    for face, points in enumerate(batch.points.numpy() / 4 - 0.375):
        for landmark, (px, py) in enumerate(points):
            gaussian = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2))
            squares.append(np.mean((heatmaps[face, landmark] - gaussian) ** 2))
    expected = np.mean(squares) + 0.3 * np.abs(supernet.factors.detach().numpy()).sum()
    for one in watching.stage.passes:
        found = one.batch_loss(batch, seeded(0)).item()
        assert found == pytest.approx(expected, rel=1e-4)
    assert [one.name for one in watching.stage.passes] == ["factors", "weights"]


def broken_in_its_second_epoch(faces, folder, spoil):
    """A stage whose second epoch is spoiled: what it says, and what it leaves."""
    network = HRSuperNet(full_architecture(19, 64, 8, (6, 10), stage_count=3, encoders=1))
    one, path = trainer(faces, folder), folder / "spoiled" / "checkpoint.safetensors"
    module, weights = one.set_up(network), weights_of(network)

    def batch_loss(batch, _):
        loss = SoftmaxLoss(4, 1.0)(module(batch.images), batch.points)
        return spoil(network, loss) if path.exists() else loss

    train = TrainingPass("train", batch_loss, one.adam(weights), weights, SCHEDULE)
    with pytest.raises(UserError) as error:
        one.run(Stage("spoiled", "spoiled", network, [train], 3, 8, lambda: {"val_nme": 1.0}))
    return str(error.value), read_checkpoint(path)


def overflowing(network, loss):
    network.stem[1].running_var.data.fill_(torch.inf)  # past autograd, which keeps watch over it
    return loss


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda _, loss: loss * torch.nan, "train_loss became nan"),
        (overflowing, "stem.1.running_var became NaN or infinite"),
    ],
)
def test_what_is_no_longer_finite_keeps_the_last_good_checkpoint(faces, tmp_path, spoil, fault):
    said, kept = broken_in_its_second_epoch(faces, tmp_path, spoil)
    assert said.startswith(f"spoiled: {fault}; the last good checkpoint is kept, lower its learning rate")
    assert kept.epoch == 1
    assert all(torch.isfinite(tensor).all() for tensor in kept.weights.values())


def test_a_heavy_l1_drives_the_factors_down(small_architecture, faces, validation, tmp_path):
    supernet = HRSuperNet(small_architecture)
    recipe = SearchRecipe(
        epochs=5, batch=8, learning_rate=SCHEDULE, factor_learning_rate=2e-2, sparsity=1e3, initial_factor=0.2
    )
    search(trainer(faces, tmp_path), supernet, recipe, SoftmaxLoss(4, 1.0), validation)
    assert supernet.factors.abs().max() < 0.1


def distilled(switches, student, faces, validation, folder, epochs=1):
    torch.manual_seed(1)
    recipe = DistilRecipe(
        epochs=epochs, batch=8, learning_rate=SCHEDULE, ensemble_weight=0.5, teacher_weight=1.0
    )
    teacher = HRNet(19, width=4)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    students = distil(
        trainer(faces, folder), student, teacher, recipe, switches, SoftmaxLoss(4, 1.0), validation
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    return students


@pytest.mark.parametrize("switches", ABLATION, ids=lambda switches: switches.name)
def test_distillation_trains_weights_and_leaves_factors_and_teacher(
    switches, lively_supernet, faces, validation, tmp_path
):
    students = distilled(switches, lively_supernet, faces, validation, tmp_path)
    assert len(students) == 1 + switches.peer
    for student in students:
        assert torch.equal(student.factors, lively_supernet.factors)
        assert not torch.equal(student.head.heatmaps.weight, lively_supernet.head.heatmaps.weight)
    if switches.peer:
        first, second = students
        assert not torch.equal(first.stem[0].weight, second.stem[0].weight)


def test_table_6_has_four_rows_of_growing_help():
    assert [switches.name for switches in ABLATION] == [
        "fine-tuned",
        "distilled-teacher",
        "distilled-teacher-peer",
        "distilled",
    ]
    assert ABLATION[-1] == Switches()


@pytest.mark.parametrize(
    ("teacher", "ensemble", "mask", "name"),
    [
        (0, 0, 0, "fine-tuned"),
        (0, 0, 0.5, "fine-tuned-masks"),
        (0, 0.5, 0, "distilled-peer"),
        (0, 0.5, 0.5, "distilled-peer-masks"),
        (2, 0, 0, "distilled-teacher"),
        (2, 0, 0.5, "distilled-teacher-masks"),
        (2, 0.5, 0, "distilled-teacher-peer"),
        (2, 0.5, 0.5, "distilled"),
    ],
)
def test_what_weighs_nothing_is_left_out_and_the_stage_is_named_by_the_rest(teacher, ensemble, mask, name):
    weights = {"teacher_weight": teacher, "ensemble_weight": ensemble, "mask": {"probability": mask}}
    recipe = DistilRecipe(epochs=1, learning_rate=SCHEDULE, **weights)
    assert Switches.of(recipe).name == name
    assert name in {one.name for one in Switches.every()}


def test_masks_that_cover_nothing_are_none():
    mask = {"probability": 0.5, "area": (0, 0)}
    recipe = DistilRecipe(epochs=1, learning_rate=SCHEDULE, teacher_weight=1, ensemble_weight=1, mask=mask)
    assert Switches.of(recipe) == Switches(masks=False)


def test_two_peers_need_no_teacher(lively_supernet, faces, validation, tmp_path):
    recipe = DistilRecipe(epochs=1, batch=8, learning_rate=SCHEDULE, ensemble_weight=0.5, teacher_weight=0)

    def trained(switches):
        loss = SoftmaxLoss(4, 1.0)
        return distil(trainer(faces, tmp_path), lively_supernet, None, recipe, switches, loss, validation)

    first, second = trained(Switches.of(recipe))
    assert not torch.equal(first.stem[0].weight, second.stem[0].weight)
    with pytest.raises(ValueError, match="distilled: there is no teacher to learn from"):
        trained(Switches())


def test_a_batch_larger_than_the_split_is_refused(lively_supernet, faces, validation, tmp_path):
    recipe = DistilRecipe(epochs=1, batch=64, learning_rate=SCHEDULE, ensemble_weight=0.5, teacher_weight=1.0)
    with pytest.raises(
        UserError, match="batch = 64 on 1 processes needs 64 faces, the training split has 16"
    ):
        distil(
            trainer(faces, tmp_path),
            lively_supernet,
            HRNet(19, width=4),
            recipe,
            Switches(),
            SoftmaxLoss(4, 1.0),
            validation,
        )
