"""Training: schedules, checkpoints, survival of a kill, refusal of NaN, the recipe's faults."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slimalign.compress.checkpoint import Checkpoint, load_weights, read_checkpoint, save_checkpoint
from slimalign.compress.recipe import Recipe, Schedule
from slimalign.compress.recipe_file import read_recipe
from slimalign.compress.training import learning_rate
from slimalign.runtimes.errors import UserError

TINY = """
name = "tiny"
loss = "softmax"
decoder = "local-softmax"
{extra}

[data]
format = "drawn"
drawn = {{ train = 24, val = 4, test = 4, size = 64 }}

[input]
size = 32

[teacher]
epochs = 2
batch = 8
learning_rate = {{ kind = "one-cycle", peak = {peak} }}

[search]
widths = [8, 12]
stem_width = 8
stage_count = 3
encoders = 1
epochs = 3
batch = 8
learning_rate = {{ kind = "one-cycle", peak = 2e-3 }}
factor_learning_rate = 3e-2
sparsity = 0.0

[slim]
max_params = 5000

[distil]
epochs = 3
batch = 8
learning_rate = {{ kind = "one-cycle", peak = 1e-3 }}
ensemble_weight = 0.5
teacher_weight = 1.0

[export]
formats = []
"""


def write_recipe(folder, extra="", peak="1e-3"):
    path = folder / "tiny.toml"
    path.write_text(TINY.format(extra=extra, peak=peak))
    return path


def slimalign(*args, **kwargs):
    command = [sys.executable, "-m", "slimalign", *map(str, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        **kwargs,
    )


def finished(process):
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    """kill -9 in the middle of three stages; on one thread the weights are equal to the last bit, in bf16 too."""
    recipe = write_recipe(tmp_path, extra='precision = "bf16-mixed"')
    status, output = finished(slimalign("run", recipe, "--out", tmp_path / "whole"))
    assert status == 0, output
    saved = {}
    for stage in ("teacher", "supernet", "distilled"):
        broken = slimalign("run", recipe, "--out", tmp_path / "broken")
        checkpoint = tmp_path / "broken" / stage / "checkpoint.safetensors"
        while not checkpoint.exists() and broken.poll() is None:
            time.sleep(0.005)
        broken.send_signal(signal.SIGKILL)
        assert finished(broken)[0] == -signal.SIGKILL
        saved[stage] = read_checkpoint(checkpoint).history
        assert saved[stage]
    status, output = finished(slimalign("run", recipe, "--out", tmp_path / "broken"))
    assert status == 0, output
    for stage in ("teacher", "supernet", "distilled"):
        whole, broken = (
            read_checkpoint(tmp_path / run / stage / "checkpoint.safetensors") for run in ("whole", "broken")
        )
        assert whole.weights.keys() == broken.weights.keys()
        assert all(torch.equal(whole.weights[name], broken.weights[name]) for name in whole.weights)
        # What was done before the kill was not done again: an epoch's seconds would differ.
        assert broken.history[: len(saved[stage])] == saved[stage]
        with open(tmp_path / "broken" / stage / "log.csv") as file:
            assert [float(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, whole.epoch + 1))


def test_two_processes_train_together_and_one_of_them_reports(tmp_path):
    process = slimalign("run", write_recipe(tmp_path), "--out", tmp_path / "run", "--devices", 2, "--json")
    status, output = finished(process)
    assert status == 0, output
    assert output.count('"steps"') == 1
    assert output.count("teacher epoch 1/2") == 1
    assert read_checkpoint(tmp_path / "run" / "distilled" / "checkpoint.safetensors").epoch == 3


@pytest.mark.parametrize("devices", [1, 2])
def test_a_loss_that_explodes_stops_with_a_clear_word(tmp_path, devices):
    recipe = write_recipe(tmp_path, peak="1e30")
    status, output = finished(slimalign("run", recipe, "--out", tmp_path / "run", "--devices", devices))
    assert status == 2
    assert output.count("slimalign: teacher: ") == 1
    assert (
        "no epoch was finished, lower its learning rate in the recipe and run again with --retrain" in output
    )
    assert "Traceback" not in output


def test_what_the_first_process_fails_at_is_told_once(tmp_path):
    """It alone writes checkpoints; the other one would wait for it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "teacher").write_text("a file in the place of the stage's folder")
    process = slimalign("run", write_recipe(tmp_path), "--out", tmp_path / "run", "--devices", 2)
    status, output = finished(process)
    assert (status, output.count("cannot be written")) == (2, 1), output
    assert "Traceback" not in output


ENDING_ALIKE = """
import hashlib, sys
from pathlib import Path
import torch
from lightning_fabric import Fabric
from slimalign.benchmarks.training_speed import drawn
from slimalign.compress.batches import TrainingFaces
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.losses import SoftmaxLoss
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe import AugmentRecipe, Schedule, TrainingRecipe
from slimalign.compress.supervised import train_supervised
from slimalign.compress.training import Trainer
from slimalign.compress.validation import ValidationFaces
from slimalign.api import _silent
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.schemes import W300

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true")
fabric.launch()
folder, samples, rule = Path(sys.argv[1]), drawn(16), CropRule(32, 1.25)
cache = cached_faces(samples, 32, folder / f"cache-{fabric.global_rank}")
faces = TrainingFaces(cache, W300, 32, 1.25, AugmentRecipe(), fabric.device)
torch.manual_seed(0)
network = HRSuperNet(full_architecture(68, 32, 8, (8, 12), stage_count=3, encoders=1))
recipe = TrainingRecipe(epochs=1, batch=4, learning_rate=Schedule(kind="one-cycle", peak=1e-2))
validation = ValidationFaces(samples[:2], rule, W300, "inter-ocular", "local-softmax")
trainer = Trainer(fabric, faces, folder, 0, _silent(), 0.1)
train_supervised(trainer, "net", "net", network, recipe, SoftmaxLoss(4, 1.5), validation)
digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in network.state_dict().values())).hexdigest()
(folder / f"weights-{fabric.global_rank}").write_text(digest)
"""


def test_processes_end_with_the_same_weights_and_statistics(tmp_path):
    """Running statistics too: they are of the faces that each has seen."""
    (tmp_path / "alike.py").write_text(ENDING_ALIKE)
    command = [sys.executable, str(tmp_path / "alike.py"), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / f"weights-{rank}").read_text() for rank in range(2))
    assert first == second


def some_checkpoint(epoch):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    network(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return network, Checkpoint(
        epoch, network.state_dict(), [optimizer.state_dict()], [{"epoch": 1.0, "nme": 3.25}]
    )


def test_a_checkpoint_comes_back_whole(tmp_path):
    path = tmp_path / "deep" / "checkpoint.safetensors"
    network, saved = some_checkpoint(3)
    save_checkpoint(path, saved)
    found = read_checkpoint(path)
    assert (found.epoch, found.history) == (3, [{"epoch": 1.0, "nme": 3.25}])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.5)
    optimizer.load_state_dict(found.optimizers[0])
    before, after = saved.optimizers[0], optimizer.state_dict()
    # JSON has no tuples: Adam's betas come back as a list.
    assert before["param_groups"] == [
        group | {"betas": tuple(group["betas"])} for group in after["param_groups"]
    ]
    for key, state in before["state"].items():
        assert all(torch.equal(state[name], after["state"][key][name]) for name in state)


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    """A real full disk: /dev/full cannot stand in for a file to rename, so a small quota on file size does."""
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, some_checkpoint(1)[1])
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import torch; from pathlib import Path\n"
        "from slimalign.compress.checkpoint import Checkpoint, save_checkpoint\n"
        "from slimalign.runtimes.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: save_checkpoint(Path(sys.argv[1]), Checkpoint(2, {'w': torch.zeros(10000)}, [], []))\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert "the last good one is kept" in done.stdout
    assert read_checkpoint(path).epoch == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, some_checkpoint(1)[1])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: not a readable safetensors file"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        ({"weight": torch.full((1, 2), torch.nan), "bias": torch.zeros(1)}, "weight holds NaN"),
        ({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, "not the weights of this network"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, fault):
    with pytest.raises(UserError, match=f"somewhere: {fault}"):
        load_weights(nn.Linear(2, 1), weights, "somewhere")


def test_the_papers_schedule():
    paper = Schedule(kind="steps", peak=1e-4, milestones=(40, 50))
    assert [learning_rate(paper, e, 60) for e in (0, 39.9, 40, 49.9, 50, 59)] == pytest.approx(
        [1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6]
    )


@given(st.floats(0, 29.99))
def test_one_cycle_stays_below_its_peak(epoch):
    assert 0 < learning_rate(Schedule(kind="one-cycle", peak=2e-3), epoch, 30) <= 2e-3


def test_one_cycle_peaks_after_the_warm_up():
    schedule = Schedule(kind="one-cycle", peak=1.0)
    assert learning_rate(schedule, 3, 30) == pytest.approx(1.0)
    assert learning_rate(schedule, 16.5, 30) == pytest.approx(0.5)
    assert learning_rate(schedule, 30, 30) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "tiny"', "", "name: Field required"),
        ("size = 32", "size = 50", "input.size = 50, must be a multiple of 32"),
        ("max_params = 5000", "", "give either threshold, or max_gmacs"),
        ("max_params = 5000", "max_params = 5000\nthreshold = 0.1", "give either threshold, or max_gmacs"),
        ("epochs = 2", "epochs = -2", "teacher.epochs = -2: Input should be greater than 0"),
        ("sparsity = 0.0", "sparsity = nan", "search.sparsity"),
        ('kind = "one-cycle", peak = 1e-3', 'kind = "cosine", peak = 1e-3', "learning_rate.kind = cosine"),
        ("[slim]", "[slim", "not valid TOML"),
        ("widths = [8, 12]", "widths = []", "search.widths = []: Tuple should have at least 1 item"),
        (
            'kind = "one-cycle", peak = 1e-3',
            'kind = "one-cycle", peak = 1e-3, milestones = [1]',
            "teacher.learning_rate: milestones belong to kind = 'steps', not to 'one-cycle'",
        ),
        (
            "ensemble_weight",
            "mask = { area = [0.5, 0.1] }\nensemble_weight",
            "distil.mask: area = [0.5, 0.1], give the smallest share first",
        ),
        (
            "teacher_weight = 1.0",
            "teacher_weight = 0.0",
            "distil.teacher_weight = 0: nothing learns from the teacher; leave [teacher] out",
        ),
        (
            "ensemble_weight = 0.5",
            "ensemble_weight = 0.0\nablation = true",
            "distil: ablation = true leaves out one part of the distillation after another; give ensemble_weight",
        ),
        ("batch = 8", "batch = 1", "teacher.batch = 1, batch norm needs more than one value"),
        ("sparsity", "sparcity", "search.sparcity: there is no such entry; did you mean sparsity?"),
        ("[distil]", "[distill]", "distill: there is no such entry; did you mean distil?"),
        ("[export]", "[baseline]\nhue = 1\n[export]", "baseline.hue: there is no such entry (and"),
    ],
)
def test_faults_in_a_recipe_name_file_entry_and_value(tmp_path, old, new, fault):
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as error:
        read_recipe(path)
    assert str(path) in str(error.value)
    assert fault in str(error.value)
    assert ("more)" in str(error.value)) == ("(and" in fault)
    assert "\n" not in str(error.value)


def without_distillation(recipe):
    """``recipe`` whose student is fine-tuned on the ground truth alone."""
    text = recipe.read_text()
    teacher = text[text.index("[teacher]") : text.index("[search]")]
    text = text.replace(teacher, "").replace("ensemble_weight = 0.5", "ensemble_weight = 0")
    recipe.write_text(text.replace("teacher_weight = 1.0", "teacher_weight = 0\nmask = { probability = 0 }"))
    return recipe


def test_a_recipe_without_distillation_needs_no_teacher(tmp_path):
    recipe = without_distillation(write_recipe(tmp_path))
    assert read_recipe(recipe).teacher is None
    recipe.write_text(recipe.read_text().replace("teacher_weight = 0", "teacher_weight = 2"))
    with pytest.raises(UserError, match=r"distil.teacher_weight = 2: by which teacher\? Add \[teacher\]"):
        read_recipe(recipe)


def test_a_run_without_distillation_ends_with_the_fine_tuned_student(tmp_path):
    recipe = without_distillation(write_recipe(tmp_path))
    recipe.write_text(recipe.read_text().replace("formats = []", 'formats = ["onnx"]'))
    status, output = finished(slimalign("run", recipe, "--out", tmp_path / "run"))
    assert status == 0, output
    assert "fine-tuning (3 epochs)" in output
    steps = json.loads((tmp_path / "run" / "waterfall.json").read_text())["steps"]
    networks = [("supernet", "pytorch"), ("slimmed", "pytorch"), ("fine-tuned", "pytorch")]
    assert [(step["step"], step["runtime"]) for step in steps] == [*networks, ("fine-tuned", "onnxruntime")]
    for command in (
        ("slim", tmp_path / "run", "--max-params", "4000"),
        ("report", tmp_path / "run", "--out", tmp_path / "report.html"),
    ):
        status, output = finished(slimalign(*command))
        assert status == 0, output
    status, output = finished(slimalign("export", tmp_path / "run", "--formats", "onnx", "--out", tmp_path))
    assert status == 0, output
    assert (tmp_path / "fine-tuned-onnx" / "bundle.json").is_file()


def test_a_baseline_too_small_to_be_normalised_is_refused_before_all_training(tmp_path):
    entries = read_recipe(write_recipe(tmp_path)).model_dump(mode="json")
    entries["search"] |= {"widths": [8, 8, 8, 8], "stage_count": 5}
    entries["baseline"] = {**entries["teacher"], "count": 1, "batch": 2}
    del entries["baseline"]["width"]
    assert Recipe.model_validate(entries).baseline.batch == 2
    entries["baseline"]["batch"] = 1
    with pytest.raises(ValueError, match="baseline.batch = 1, batch norm needs more than one value"):
        Recipe.model_validate(entries)
