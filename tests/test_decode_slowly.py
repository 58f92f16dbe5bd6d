"""The decoder against another one, written for one heatmap in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimalign.runtimes.decode import DECODERS, decode
from slimalign.runtimes.errors import NonFiniteError

WINDOWS = {"local-mean": 2, "local-softmax": 4}
"""How far the windows reach to each side."""


def slow(heatmap: np.ndarray, decoder: str) -> tuple[float, float, float]:
    """x, y and the score of one heatmap (H, W), in its pixels."""
    height, width = heatmap.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    top, left = max(places, key=lambda place: heatmap[place])
    peak = float(heatmap[top, left])
    if decoder == "argmax-quarter":
        return left + 0.25 * _rise(heatmap[top], left), top + 0.25 * _rise(heatmap[:, left], top), peak
    weights = {
        place: math.exp(float(heatmap[place]) - peak)
        if decoder == "local-softmax"
        else max(float(heatmap[place]), 0)
        for place in places
    }
    reach = WINDOWS[decoder]
    near = {
        (row, column): weight
        for (row, column), weight in weights.items()
        if abs(row - top) <= reach and abs(column - left) <= reach
    }
    total = math.fsum(near.values())
    score = total / math.fsum(weights.values()) if decoder == "local-softmax" else peak
    if total == 0:
        return left, top, score
    x = math.fsum(column * weight for (_, column), weight in near.items()) / total
    y = math.fsum(row * weight for (row, _), weight in near.items()) / total
    return x, y, score


def _rise(line: np.ndarray, place: int) -> int:
    """The side of the larger neighbour, -1 or 1; 0 at either end and where they are equal."""
    if place in (0, len(line) - 1):
        return 0
    before, after = float(line[place - 1]), float(line[place + 1])
    return (after > before) - (after < before)


@st.composite
def heatmaps(draw: st.DrawFn) -> np.ndarray:
    """(N, K, H, W) float32 as they lie in memory with the channels first or last; whole numbers make many ties."""
    n, k, height, width = (draw(st.integers(1, most)) for most in (3, 4, 14, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(scale=draw(st.sampled_from([0.0, 0.1, 3.0, 40.0])), size=(n, height, width, k))
    if draw(st.booleans()):
        values = np.rint(values)
    made = values.astype(np.float32).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(made) if draw(st.booleans()) else made


@settings(deadline=None, max_examples=150)
@given(heatmaps(), st.sampled_from(DECODERS))
def test_every_decoder_finds_what_plain_loops_find(given_maps: np.ndarray, decoder: str) -> None:
    before = given_maps.copy()
    points, scores = decode(given_maps, 4, decoder)
    expected = np.array([[slow(one, decoder) for one in row] for row in given_maps])
    np.testing.assert_allclose(points, (expected[..., :2] + 0.5) * 4 - 0.5, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores, expected[..., 2], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(given_maps, before)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels_last", [False, True])
def test_one_value_that_is_not_finite_is_found_wherever_it_stands(
    decoder: str, value: float, channels_last: bool
) -> None:
    rng = np.random.default_rng(0)
    for place in ((0, 0, 0, 0), (1, 2, 7, 8), (1, 1, 3, 4)):
        maps = rng.normal(size=(2, 3, 8, 9)).astype(np.float32)
        maps[place] = value
        if channels_last:
            maps = np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        with pytest.raises(NonFiniteError, match="NaN or infinite"):
            decode(maps, 4, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_half_precision_is_decoded_as_the_same_values_in_single(decoder: str) -> None:
    heatmaps = np.random.default_rng(0).normal(0, 6, (2, 3, 16, 16)).astype(np.float16)
    for found, expected in zip(
        decode(heatmaps, 4.0, decoder), decode(heatmaps.astype(np.float32), 4.0, decoder), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
