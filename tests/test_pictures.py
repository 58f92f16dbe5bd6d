"""Pictures of architectures and importance factors, read back from the SVG files that were drawn."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from slimalign.compress.networks.architecture import Architecture, Operation, full_architecture
from slimalign.compress.networks.catalogue import build_network
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.pictures import draw_architecture, draw_factors, uncut
from slimalign.runtimes.errors import UserError

# Two levels, four stages. Of 2 + 4 + 4 operations it keeps five, of 1 + 2 + 2 + 2 blocks five.
CUT = Architecture(
    landmarks=5,
    input_size=64,
    stem_width=12,
    widths=(4, 8),
    stages=({0: (0,), 1: (0,)}, {1: (0, 1)}, {0: (1,)}),
)
WHOLE = full_architecture(5, input_size=64, stem_width=12, widths=(4, 8), stage_count=4)
KEPT_IDS = {"s2-t0-f0", "s2-t1-f0", "s3-t1-f0", "s3-t1-f1", "s4-t0-f1"}
DROPPED_IDS = {"s3-t0-f0", "s3-t0-f1", "s4-t0-f0", "s4-t1-f0", "s4-t1-f1"}
KEPT_BLOCKS = {"s1-l0", "s2-l0", "s2-l1", "s3-l1", "s4-l0"}
DROPPED_BLOCKS = {"s3-l0", "s4-l1"}

SVG = "{http://www.w3.org/2000/svg}"


def drawn(path: Path) -> dict[str, ElementTree.Element]:
    """Every group of the SVG by its id."""
    groups = ElementTree.parse(path).iter(f"{SVG}g")
    return {group.attrib["id"]: group for group in groups if "id" in group.attrib}


def with_prefix(ids: dict[str, ElementTree.Element], prefix: str) -> set[str]:
    """What follows ``prefix`` in the ids of operations (s3-t0-f1) or blocks (s3-l0) that have it."""
    return {name.removeprefix(prefix) for name in ids if re.match(rf"{prefix}s\d", name)}


def numbers(group: ElementTree.Element, place: int = 0) -> np.ndarray:
    """Points (N, 2) of the group's path; y runs down in an SVG."""
    words = re.findall(r"-?\d+\.?\d*", group.findall(f"{SVG}path")[place].attrib["d"])
    return np.array(words, dtype=float).reshape(-1, 2)


def style(group: ElementTree.Element) -> dict[str, str]:
    """The CSS of the group's first path."""
    text = group.findall(f"{SVG}path")[0].attrib["style"]
    return {key.strip(): value.strip() for key, value in (item.split(":") for item in text.split(";"))}


def test_the_uncut_a_cut_keeps_all() -> None:
    assert uncut(CUT).operations == WHOLE.operations
    assert len(uncut(CUT).operations) == 10


def test_an_architecture_is_drawn_whole(tmp_path: Path) -> None:
    path = tmp_path / "cut.svg"
    draw_architecture(CUT, path, "a small $student$")
    ids = drawn(path)
    assert with_prefix(ids, "kept-") == KEPT_IDS
    assert with_prefix(ids, "dropped-") == set()
    assert with_prefix(ids, "kept-block-") == KEPT_BLOCKS
    assert with_prefix(ids, "dropped-block-") == DROPPED_BLOCKS
    text = path.read_text(encoding="utf-8")
    caption = "5 of 10 operations (50%) and 5 of 7 blocks (71%) are kept"
    # Level 0 alone reaches the head, which is as wide as that level.
    head = "1×1: 4 → 4 → 5"
    counts = ("same level: 2", "up: 1", "down: 2")
    for words in ("a small $student$", caption, head, "stem 12", "H/4", "H/8", *counts):
        assert f"<!-- {words} -->" in text
    assert "<!-- H/16 -->" not in text


def test_arrows_run_the_way_of_their_operations(tmp_path: Path) -> None:
    draw_architecture(CUT, tmp_path / "cut.svg")
    ids = drawn(tmp_path / "cut.svg")
    colours: dict[int, set[str]] = {}
    for name, way in (("s2-t0-f0", 0), ("s2-t1-f0", 1), ("s3-t1-f0", 1), ("s3-t1-f1", 0), ("s4-t0-f1", -1)):
        line = numbers(ids[f"kept-{name}"])
        (x0, y0), (x1, y1) = line[0], line[-1]
        assert x1 > x0
        assert np.sign(round(y1 - y0, 3)) == way
        colours.setdefault(way, set()).add(style(ids[f"kept-{name}"])["stroke"])
    assert [len(shades) for shades in colours.values()] == [1, 1, 1]
    assert len(set.union(*colours.values())) == 3


def test_factors_set_width_and_order(tmp_path: Path) -> None:
    importance = {name: 0.1 * place for place, name in enumerate(sorted(DROPPED_IDS | KEPT_IDS))}
    factors = [importance[f"s{op.stage}-t{op.target}-f{op.source}"] for op in WHOLE.operations]
    signs = np.resize([1.0, -1.0], len(factors))
    draw_factors(WHOLE, signs * factors, tmp_path / "all.svg")
    ids = drawn(tmp_path / "all.svg")
    assert with_prefix(ids, "kept-") == KEPT_IDS | DROPPED_IDS
    assert "cut" not in ids
    widths = {name: float(style(ids[f"kept-{name}"]).get("stroke-width", "1")) for name in importance}
    assert sorted(widths, key=widths.__getitem__) == sorted(importance)
    assert widths["s2-t0-f0"] == pytest.approx(0.5)
    assert widths["s4-t1-f1"] == pytest.approx(3.2)
    bars = {name: numbers(ids[f"bar-{name}"]) for name in importance}
    from_left = sorted(bars, key=lambda name: bars[name][:, 0].min())
    assert from_left == sorted(importance, reverse=True)
    heights = [float(np.ptp(bars[name][:, 1])) for name in from_left]
    np.testing.assert_allclose(heights, heights[0] * np.arange(9, -1, -1) / 9, atol=1e-3)


def test_pruned_operations_are_dashed_and_the_cut_is_marked(tmp_path: Path) -> None:
    # s3-t0-f0 is stronger than a kept one, but its block feeds nothing.
    strong = {"s3-t0-f0": 0.7}
    weights = dict.fromkeys(KEPT_IDS, 0.5) | dict.fromkeys(DROPPED_IDS, 0.1) | strong
    factors = [weights[f"s{op.stage}-t{op.target}-f{op.source}"] for op in WHOLE.operations]
    draw_factors(WHOLE, np.array(factors), tmp_path / "cut.svg", CUT, "factors")
    ids = drawn(tmp_path / "cut.svg")
    assert with_prefix(ids, "kept-") == KEPT_IDS
    assert with_prefix(ids, "dropped-") == DROPPED_IDS
    assert with_prefix(ids, "kept-block-") == KEPT_BLOCKS
    assert with_prefix(ids, "dropped-block-") == DROPPED_BLOCKS
    assert all("stroke-dasharray" in style(ids[f"dropped-{name}"]) for name in DROPPED_IDS)
    assert not any("stroke-dasharray" in style(ids[f"kept-{name}"]) for name in KEPT_IDS)
    cut = numbers(ids["cut"])[0, 0]
    for name in KEPT_IDS | {"s3-t0-f0"}:
        assert numbers(ids[f"bar-{name}"])[:, 0].max() < cut
    for name in DROPPED_IDS - {"s3-t0-f0"}:
        assert numbers(ids[f"bar-{name}"])[:, 0].min() > cut
    assert {style(ids[f"bar-{name}"])["fill"] for name in DROPPED_IDS} == {"#ffffff"}
    assert "#ffffff" not in {style(ids[f"bar-{name}"])["fill"] for name in KEPT_IDS}
    text = (tmp_path / "cut.svg").read_text(encoding="utf-8")
    for words in (
        "cut: the last one kept has 0.5",
        "1 larger ones are pruned (hollow)",
        "smallest 0.1, median 0.5, largest 0.7",
        "importance |a|: 5 of 10 operations (50%) and 5 of 7 blocks (71%) are kept",
    ):
        assert words in text


@pytest.mark.parametrize(("levels", "stages"), [(1, 2), (2, 3), (5, 2), (4, 20)])
def test_any_number_of_levels_and_stages_is_drawn(tmp_path: Path, levels: int, stages: int) -> None:
    net = full_architecture(
        5, input_size=4 * 2**levels, widths=tuple(range(4, 4 + levels)), stage_count=stages
    )
    draw_architecture(net, tmp_path / "net.svg")
    draw_factors(net, np.zeros(len(net.operations)), tmp_path / "factors.svg")
    for name in ("net.svg", "factors.svg"):
        assert len(with_prefix(drawn(tmp_path / name), "kept-")) == levels + levels**2 * (stages - 2)


@pytest.mark.parametrize(
    ("name", "operations", "blocks"),
    [("sd-hrnet-300w", 50, 26), ("sd-hrnet-cofw", 42, 28), ("sd-hrnet-wflw", 40, 24)],
)
def test_the_published_students_are_drawn(tmp_path: Path, name: str, operations: int, blocks: int) -> None:
    network = build_network(name).network
    assert isinstance(network, HRSuperNet)
    draw_architecture(network.architecture, tmp_path / "student.svg", name)
    ids = drawn(tmp_path / "student.svg")
    assert len(with_prefix(ids, "kept-")) == operations
    assert len(with_prefix(ids, "kept-block-")) == blocks
    # One block in the first stage, four in each of the nine that follow.
    assert len(with_prefix(ids, "dropped-block-")) == 37 - blocks


def test_both_kinds_of_file_are_written_and_nothing_else(tmp_path: Path) -> None:
    draw_architecture(CUT, tmp_path / "net.png")
    draw_factors(WHOLE, np.ones(10), tmp_path / "factors.png", CUT)
    draw_architecture(CUT, tmp_path / "net.svg")
    for name in ("net.png", "factors.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors.png", "net.png", "net.svg"]


def test_the_same_picture_has_the_same_bytes(tmp_path: Path) -> None:
    factors = np.linspace(1.0, 0.0, 10)
    for name in ("a.svg", "b.svg"):
        draw_factors(WHOLE, factors, tmp_path / name, CUT)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (np.ones(9), r"factors: shape \(9,\), but the architecture has 10 operations"),
        (np.ones((10, 1)), r"factors: shape \(10, 1\), but the architecture has 10 operations"),
        (np.array([1.0, 1.0, np.nan, *np.ones(7)]), "factors: the one of stage 3, level 0 to 0 is NaN"),
        (np.array([*np.ones(9), -np.inf]), "factors: the one of stage 4, level 1 to 1 is NaN or infinite"),
    ],
)
def test_bad_factors_are_refused(tmp_path: Path, factors: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        draw_factors(WHOLE, factors, tmp_path / "factors.png")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_cut_of_another_network_is_refused(tmp_path: Path) -> None:
    other = full_architecture(5, input_size=64, widths=(4, 8), stage_count=5)
    for kept in (other, WHOLE):
        with pytest.raises(
            UserError, match="kept: it has operations, widths or stages that the architecture"
        ):
            draw_factors(CUT, np.ones(5), tmp_path / "factors.png", kept)
    small = WHOLE.keeping([Operation(2, 0, 0), Operation(3, 0, 0), Operation(4, 0, 0)])
    draw_factors(WHOLE, np.ones(10), tmp_path / "factors.svg", small)
    assert with_prefix(drawn(tmp_path / "factors.svg"), "kept-") == {"s2-t0-f0", "s3-t0-f0", "s4-t0-f0"}


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.png" / "a.svg").mkdir(parents=True)
    (tmp_path / "file").write_text("no folder")
    for path in (
        tmp_path / "file" / "net.png",
        tmp_path / "folder.png",
        tmp_path / "folder.png" / "a.svg",
    ):
        with pytest.raises(UserError, match="cannot be written") as caught:
            draw_architecture(CUT, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="net.pdf: a picture is written as .png or .svg"):
        draw_architecture(CUT, tmp_path / "net.pdf")
    assert {path.name for path in tmp_path.rglob("*")} == {"folder.png", "a.svg", "file"}


def test_the_folder_of_a_picture_is_made(tmp_path: Path) -> None:
    draw_architecture(CUT, tmp_path / "new" / "net.png")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "net.png"]
