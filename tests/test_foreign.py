"""Models from elsewhere: what their TOML says of them holds, and mistakes in it are told in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from cells import CENTRES, CROPS, onnx_network
from elsewhere import ENTRIES, LANDMARKS, SIZE, elsewhere, network, weights_of, write_toml
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from small_litert import computed, constant, litert_file

from slimalign.foreign import bundle_at
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.answers import points_and_scores
from slimalign.runtimes.bundle import COORDINATES, Bundle
from slimalign.runtimes.errors import NonFiniteError, UserError
from slimalign.runtimes.opening import open_session

ROOT = Path(__file__).parent.parent
FACES = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def found_with(bundle: Bundle, crops: np.ndarray = FACES) -> Any:
    with open_session(bundle, 1) as session:
        return Aligner(session).align_crops(crops)


def values_of(
    crops: np.ndarray, values: int, mean: Any = 0, std: Any = 255, order: Any = (0, 1, 2)
) -> np.ndarray:
    """What the network of ``elsewhere`` gives, worked out in float64."""
    means = crops.reshape(len(crops), -1, 3).mean(axis=1)[:, list(order)]
    return (means - np.asarray(mean)) / np.asarray(std) @ weights_of(values).astype(np.float64)


@pytest.mark.parametrize(
    ("output", "origin", "place"),
    [
        ("pixels", None, lambda v: v),
        ("pixels", "edge", lambda v: v - 0.5),
        ("zero-to-one", "centre", lambda v: v * SIZE),
        ("zero-to-one", "edge", lambda v: v * SIZE - 0.5),
        ("minus-one-to-one", "edge", lambda v: (v + 1) / 2 * SIZE - 0.5),
    ],
)
def test_values_are_points_in_the_unit_that_is_named(
    tmp_path: Path, output: str, origin: str | None, place: Any
) -> None:
    found = found_with(bundle_at(elsewhere(tmp_path, output=output, origin=origin)))
    expected = place(values_of(FACES, 2 * LANDMARKS)).reshape(3, LANDMARKS, 2)
    np.testing.assert_allclose(found.points, expected, atol=1e-5)
    np.testing.assert_array_equal(found.scores, 1.0)


@pytest.mark.parametrize(("colour", "order"), [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_mean_and_deviation_are_in_grey_levels_and_in_the_order_of_the_colours(
    tmp_path: Path, colour: str, order: tuple[int, ...], layout: str
) -> None:
    mean, std = [104.0, 117.0, 123.0], [50.0, 60.0, 70.0]
    path = elsewhere(tmp_path, colour=colour, mean=mean, std=std)
    onnx.save(network(2 * LANDMARKS, layout=layout), tmp_path / "model.onnx")
    bundle = bundle_at(path)
    assert bundle.manifest.layout == layout
    expected = values_of(FACES, 2 * LANDMARKS, mean, std, order).reshape(3, LANDMARKS, 2)
    np.testing.assert_allclose(found_with(bundle).points, expected, atol=1e-5)


def test_points_are_chosen_and_what_follows_them_is_left_out(tmp_path: Path) -> None:
    chosen = [23, 0, 22, *range(1, 17)]
    path = elsewhere(tmp_path, 3 * 24 + 7, values_per_point=3, landmarks=chosen)
    expected = values_of(FACES, 3 * 24 + 7)[:, :72].reshape(3, 24, 3)[:, chosen, :2]
    np.testing.assert_allclose(found_with(bundle_at(path)).points, expected, atol=1e-5)


@given(data=st.data(), output=st.sampled_from(COORDINATES), edge=st.booleans(), each=st.sampled_from((2, 3)))
def test_points_come_back_from_whatever_they_are_written_as(
    data: st.DataObject, output: str, edge: bool, each: int
) -> None:
    size = data.draw(st.integers(1, 500))
    chosen = data.draw(st.lists(st.integers(0, 40), min_size=LANDMARKS, max_size=LANDMARKS))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    of_file = rng.uniform(-size, 2 * size, (2, 41, 2))
    scaled = {
        "pixels": of_file + 0.5 * edge,
        "zero-to-one": (of_file + 0.5 * edge) / size,
        "minus-one-to-one": 2 * (of_file + 0.5 * edge) / size - 1,
    }[output]
    raw = np.concatenate([scaled, rng.random((2, 41, each - 2))], axis=2).reshape(2, -1)
    manifest: Any = SimpleNamespace(
        name="any",
        output=output,
        origin="edge" if edge else "centre",
        values_per_point=each,
        landmarks=chosen,
        input_size=size,
    )
    points, scores = points_and_scores(raw, manifest, LANDMARKS)
    np.testing.assert_allclose(points, of_file[:, chosen], atol=1e-9 * size)
    assert scores.shape == (2, LANDMARKS)


@pytest.mark.parametrize(
    ("values", "each"), [(2 * 98, 2), (3 * LANDMARKS, 2), (2 * LANDMARKS + 1, 2), (3 * 468, 3)]
)
def test_more_values_than_the_scheme_has_are_not_cut_off_in_silence(
    tmp_path: Path, values: int, each: int
) -> None:
    path = elsewhere(tmp_path, values, values_per_point=each)
    said = rf"the file gives {values} values, the 19 points of 'aflw-19' are {19 * each}; list in landmarks"
    with pytest.raises(UserError, match=said) as caught:
        bundle_at(path)
    assert str(caught.value).startswith(f"{path}: ")
    manifest = bundle_at(elsewhere(tmp_path, 2 * LANDMARKS)).manifest
    with pytest.raises(UserError, match="the file gives 39 values, the 19 points of 'aflw-19' are 38; list"):
        points_and_scores(np.zeros((1, 39), dtype=np.float32), manifest, LANDMARKS)


def test_values_that_are_not_finite_are_no_points(tmp_path: Path) -> None:
    manifest = bundle_at(elsewhere(tmp_path)).manifest
    raw = np.zeros((1, 2 * LANDMARKS), dtype=np.float32)
    raw[0, 7] = np.nan
    with pytest.raises(NonFiniteError, match="bundle 'mine': the file's points are NaN or infinite"):
        points_and_scores(raw, manifest, LANDMARKS)


def test_heatmaps_are_decoded_and_chosen(tmp_path: Path) -> None:
    onnx.save(
        onnx_network("n"), tmp_path / "model.onnx"
    )  # its points are known by arithmetic, red ones and green ones
    chosen = [1] * 10 + [0] * 9
    path = write_toml(
        tmp_path / "mine.toml", output="heatmaps", decoder="local-mean", stride=4, landmarks=chosen
    )
    np.testing.assert_allclose(found_with(bundle_at(path), CROPS).points, CENTRES[:, chosen])


@pytest.mark.parametrize("axes", [(19, 2), (1, 19, 2), (1, 1, 38)])
def test_points_may_have_axes_of_their_own(tmp_path: Path, axes: tuple[int, ...]) -> None:
    path = elsewhere(tmp_path)
    onnx.save(network(2 * LANDMARKS, axes=axes), tmp_path / "model.onnx")
    found = found_with(bundle_at(path))
    np.testing.assert_allclose(found.points.reshape(3, -1), values_of(FACES, 2 * LANDMARKS), atol=1e-5)


def test_one_of_several_outputs_is_named(tmp_path: Path) -> None:
    path = elsewhere(tmp_path, output_name="points")
    onnx.save(network(2 * LANDMARKS, more=("pose",)), tmp_path / "model.onnx")
    found = found_with(bundle_at(path))
    np.testing.assert_allclose(found.points.reshape(3, -1), values_of(FACES, 2 * LANDMARKS), atol=1e-5)


def test_a_fixed_batch_is_read_from_the_file(tmp_path: Path) -> None:
    path = elsewhere(tmp_path)
    onnx.save(network(2 * LANDMARKS, batch=2), tmp_path / "model.onnx")
    bundle = bundle_at(path)
    assert bundle.manifest.batch == 2
    found = found_with(bundle)
    np.testing.assert_allclose(found.points.reshape(3, -1), values_of(FACES, 2 * LANDMARKS), atol=1e-5)


@pytest.mark.parametrize("dtype", ["FLOAT32", "UINT8"])
def test_a_tflite_file_joins_too(tmp_path: Path, dtype: str) -> None:
    # Its values are the pixels themselves; as uint8 they are kept as they are: scale 1/255, zero 0.
    image, given = (computed(dtype, shape, 1 / 255) for shape in ((1, 4, 4, 3), (1, 48)))
    (tmp_path / "model.tflite").write_bytes(
        litert_file("RESHAPE", [image, constant([1, 48])], [given], newShape=[1, 48])
    )
    entries = {"model": "model.tflite", "output": "zero-to-one", "landmarks": list(range(LANDMARKS))}
    bundle = bundle_at(write_toml(tmp_path / "mine.toml", **entries))
    manifest = bundle.manifest
    assert (manifest.layout, manifest.input_size, manifest.batch) == ("NHWC", 4, 1)
    crops = FACES[:, :4, :4]
    expected = crops.reshape(3, -1)[:, : 2 * LANDMARKS].reshape(3, LANDMARKS, 2) / 255 * 4
    np.testing.assert_allclose(found_with(bundle, crops).points, expected, atol=1e-5)


def test_the_cost_of_the_file_is_in_the_bundle(tmp_path: Path) -> None:
    cost = bundle_at(elsewhere(tmp_path)).manifest.cost
    assert (cost["params"], cost["macs"]) == (3 * 38, 3 * 38)
    image, means, values = 3 * SIZE * SIZE, 3, 38
    assert cost["bytes_moved"] == 4 * (image + means + means + 3 * 38 + values)


def test_a_file_that_cannot_be_counted_is_used_without_its_cost(tmp_path: Path) -> None:
    model = network(2 * LANDMARKS)
    del model.graph.node[-1]
    model.graph.node.append(
        onnx.helper.make_node("Einsum", ["means", "weights"], ["points"], equation="nc,cv->nv")
    )
    onnx.save(model, tmp_path / "model.onnx")
    assert bundle_at(write_toml(tmp_path / "mine.toml")).manifest.cost == {}


def test_a_bundle_is_made_once_and_anew_where_the_model_or_the_toml_has_changed(tmp_path: Path) -> None:
    path = elsewhere(tmp_path)
    first = bundle_at(path)
    made = (first.folder / "bundle.json").stat().st_mtime_ns
    assert bundle_at(path) == first
    assert (first.folder / "bundle.json").stat().st_mtime_ns == made
    moved = bundle_at(write_toml(path, box_scale=1.5))
    assert (moved.manifest.box_scale, moved.sha256 != first.sha256) == (1.5, True)
    assert bundle_at(write_toml(path)) == first
    onnx.save(network(2 * LANDMARKS, batch=2), tmp_path / "model.onnx")
    other = bundle_at(path)
    assert (other.folder != first.folder, other.sha256 != first.sha256) == (True, True)
    (first.folder / "model.onnx").write_bytes(b"damaged")
    onnx.save(network(2 * LANDMARKS), tmp_path / "model.onnx")
    assert bundle_at(path) == first


def test_a_model_may_lie_elsewhere(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    (tmp_path / "tomls").mkdir()
    path = write_toml(tmp_path / "tomls" / "mine.toml", model=str(tmp_path / "model.onnx"), name="theirs")
    assert bundle_at(path).manifest.name == "theirs"


def test_bundles_of_older_versions_keep_their_key(tmp_path: Path) -> None:
    manifest = bundle_at(elsewhere(tmp_path)).manifest
    old = dataclasses.replace(manifest, output="heatmaps")
    reading = {
        "input_size": SIZE,
        "box_scale": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "scheme": "aflw-19",
        "decoder": "argmax-quarter",
        "stride": 1,
    }
    model = hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    key = json.dumps([model, reading], sort_keys=True).encode()
    assert old.sha256 == dataclasses.replace(old, output="points").sha256 == hashlib.sha256(key).hexdigest()
    changes: list[dict[str, Any]] = [
        {"output": "zero-to-one"},
        {"colour": "bgr"},
        {"origin": "edge"},
        {"values_per_point": 3},
        {"landmarks": tuple(range(LANDMARKS))},
        {"output_name": "points"},
    ]
    keys = {old.sha256, manifest.sha256, *(dataclasses.replace(manifest, **one).sha256 for one in changes)}
    assert len(keys) == 2 + len(changes)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"colour": None}, "colour is missing, add it as one of rgb, bgr"),
    ({"colour": "grey"}, 'colour = "grey", must be one of rgb, bgr'),
    ({"mean": [1, 2]}, r"mean = \[1, 2\], must be a number in grey levels, or a list of three of them"),
    ({"std": 0}, "std = 0, must be a number in grey levels above 0"),
    ({"std": [1, True, 1]}, r"std = \[1, true, 1\], must be"),
    ({"box_scale": "1.2"}, 'box_scale = "1.2", must be the side of the crop'),
    (
        {"output": "points"},
        'output = "points", must be one of zero-to-one, minus-one-to-one, pixels, heatmaps',
    ),
    ({"values_per_point": 4}, "values_per_point = 4, must be one of 2, 3"),
    ({"stride": 4}, r"stride = 4: no such entry; "),
    ({"colours": "rgb"}, 'colours = "rgb": no such entry; did you mean colour?'),
    ({"output": "heatmaps", "stride": 4}, "decoder is missing, add it as one of argmax-quarter"),
    ({"landmarks": [0, 1]}, "landmarks lists 2 points, must list 19, one for each of aflw-19"),
    ({"landmarks": [-1] * 19}, r"landmarks = \[-1, .*\], must be a list with the number of the file's point"),
    ({"landmarks": [19] * 19}, "the file gives 38 values, its landmarks need 40; mend landmarks"),
    ({"scheme": "300w-68"}, "the file gives 38 values, its landmarks need 136; mend landmarks"),
    ({"model": "other.onnx"}, r'model = "other.onnx": there is no .*other.onnx; put it there'),
    ({"model": "model.pth"}, r'model = "model.pth", must be the path of an .onnx or .tflite file'),
    ({"layout": "NHWC"}, r"layout = NHWC, but the file takes image float32 \[\?, 3, 8, 8\]; leave it out"),
    ({"input_size": 112}, r"input_size = 112, but the file takes image float32 \[\?, 3, 8, 8\]"),
    ({"output_name": "pose"}, r'output_name = "pose": the file gives points float32 \[\?, 38\]; name one'),
    (
        {"output": "heatmaps", "decoder": "local-mean", "stride": 2},
        r"stride = 2, but the file gives heatmaps of shape \(1, 38\) for crops of 8 pixels",
    ),
]


@pytest.mark.parametrize(("changes", "said"), MISTAKES)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = elsewhere(tmp_path, **changes)
    with pytest.raises(UserError, match=said) as caught:
        bundle_at(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": TensorProto.FLOAT16}, r"the file gives points float16 \[\?, 38\]; float32 is needed"),
        (
            {"more": ("pose",)},
            r"the file gives points float32 \[\?, 38\], pose float32 .*; say which by output_name",
        ),
        (
            {"axes": (2, 19)},
            r"gives points float32 \[\?, 2, 19\], which are not 2 values for each point; mend",
        ),
        (
            {"size": "s"},
            r"input_size is missing, and the file, which takes image float32 .*, fixes none; add it",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_told_in_one_line(tmp_path: Path, options: Any, said: str) -> None:
    path = elsewhere(tmp_path)
    onnx.save(network(2 * LANDMARKS, **options), tmp_path / "model.onnx")
    with pytest.raises(UserError, match=said) as caught:
        bundle_at(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path: Path) -> None:
    path = elsewhere(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"model.onnx: ONNX Runtime .* cannot open it .*; give a whole file"):
        bundle_at(path)
    with pytest.raises(UserError, match="nowhere.toml: no such file; give a model's TOML"):
        bundle_at(tmp_path / "nowhere.toml")


def test_a_file_whose_weights_lie_in_another_is_to_be_saved_as_one(tmp_path: Path) -> None:
    path = elsewhere(tmp_path)
    onnx.save(
        onnx.load(tmp_path / "model.onnx"),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    said = (
        r'mine.toml: model = "model.onnx" keeps weights in other files \(external data\); save it as one file'
    )
    with pytest.raises(UserError, match=said) as caught:
        bundle_at(path)
    assert str(caught.value).startswith(f"{path}: ")
    # As the line says.
    onnx.save(onnx.load(tmp_path / "model.onnx"), tmp_path / "one.onnx")
    found = found_with(bundle_at(write_toml(path, model="one.onnx")))
    np.testing.assert_allclose(found.points.reshape(3, -1), values_of(FACES, 2 * LANDMARKS), atol=1e-5)


PEERS = {
    "pfld": (136, 112),
    "pfld_ghostone": (196, 112),
    "pfld_ghostnet_slim": (196, 112),
    "slim_160": (143, 160),
}
"""What each file gives and the size that it takes."""


def test_every_peer_has_its_toml() -> None:
    assert {path.stem for path in (ROOT / "examples/peers").glob("*.toml")} == set(PEERS)


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_toml_can_be_used(tmp_path: Path, name: str) -> None:
    text = (ROOT / f"examples/peers/{name}.toml").read_text(encoding="utf-8")
    (path := tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    (model,) = (line.split('"')[1] for line in text.splitlines() if line.startswith("model"))
    values, size = PEERS[name]
    onnx.save(network(values, size, batch=1), tmp_path / model)
    manifest = bundle_at(path).manifest
    assert (manifest.name, manifest.input_size, manifest.scheme) == (name, size, "300w-68")
    listed = manifest.landmarks or tuple(range(68))
    assert (len(set(listed)), max(listed) < values // 2) == (68, True)
    assert ENTRIES.keys() <= {line.split(" = ")[0] for line in text.splitlines()}
