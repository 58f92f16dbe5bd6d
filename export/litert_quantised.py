"""LiteRT with fewer bits, from a float32 file, by AI Edge Quantizer: float16, dynamic range, int8, int16x8."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.export.blocks import litert_block_pattern
from slimalign.export.coordinate_parts import CLASSES, LITERT_PATTERN

Float32 = NDArray[np.float32]
Ranges = Mapping[str, Any]
"""Least and greatest value of each tensor, as the quantiser keeps them."""
Recipe = list[dict[str, Any]]


def _fp16() -> Recipe:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    recipe = recipe_manager.RecipeManager()
    recipe.add_quantization_config(
        ".*",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            weight_tensor_config=weights,
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )
    return list(recipe.get_quantization_recipe())


def _dynamic() -> Recipe:
    from ai_edge_quantizer import recipe

    return list(recipe.dynamic_wi8_afp32())


def _int8_at_interface() -> Recipe:
    from ai_edge_quantizer import recipe

    return list(recipe.static_wi8_ai8())


def _int8() -> Recipe:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    recipe = recipe_manager.RecipeManager()
    recipe.load_quantization_recipe(_int8_at_interface())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        recipe.add_quantization_config(".*", end, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    return list(recipe.get_quantization_recipe())


def _int16x8() -> Recipe:
    from ai_edge_quantizer import recipe

    return list(recipe.static_wi8_ai16())


def _recipe_for(source: Path, scheme: str, float_blocks: Collection[str] = ()) -> Recipe:
    """The recipe of ``scheme`` for the model ``source``; ``float_blocks`` and a decoder in it compute in float32."""
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    whole = recipe_manager.RecipeManager()
    whole.load_quantization_recipe(SCHEMES[scheme]())
    left = [litert_block_pattern(block) for block in float_blocks]
    if CLASSES[0].encode() in source.read_bytes():
        # What gives the outputs goes by their names.
        left += [LITERT_PATTERN, ".*output.*"]
    operations = qtyping.TFLOperationName
    for names in left:
        for operation in (operations.ALL_SUPPORTED, operations.OUTPUT):
            whole.add_quantization_config(
                names, operation, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE
            )
    return list(whole.get_quantization_recipe())


SCHEMES: Mapping[str, Callable[[], Recipe]] = MappingProxyType(
    {"fp16": _fp16, "dynamic": _dynamic, "int8": _int8, "int8-io": _int8_at_interface, "int16x8": _int16x8}
)
"""Each scheme by its name. Weights are signed and for each output channel; ``int8`` has float32 at the interface,
``int8-io`` int8, ``int16x8`` int16."""


def litert_ranges(source: Path, batches: Iterable[Float32]) -> Ranges:
    """The ranges of all tensors of the float32 model ``source`` on ``batches`` (N, S, S, 3), for any static scheme."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer

    # The first of the names is that of the one signature, whose input has a name of its own.
    ((signature, ends),) = Interpreter(str(source)).get_signature_list().items()
    (name,) = ends["inputs"]
    faces = [{name: batch} for batch in batches]
    with _quiet():
        ranges: Ranges = quantizer.Quantizer(str(source), _recipe_for(source, "int8-io")).calibrate(
            {signature: faces}
        )
    return ranges


def write_litert_quantised(
    source: Path, scheme: str, ranges: Ranges | None, path: Path, float_blocks: Collection[str] = ()
) -> None:
    """Write the float32 model ``source`` by ``scheme``, a name of SCHEMES; ``ranges`` is needed by the static ones.

    Blocks named in ``float_blocks`` stay in float32.
    """
    from ai_edge_quantizer import quantizer

    with _quiet():
        result = quantizer.Quantizer(str(source), _recipe_for(source, scheme, float_blocks)).quantize(ranges)
        result.export_model(str(path), overwrite=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's bars and sums, and the interpreter's warning that calibration keeps all tensors."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        yield
