"""Whether a line of a results file holds what its kind of record does: texts, counts, figures, and lists of such."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from slimalign.runtimes.errors import UserError

SHOWN = 40
"""Characters of a wrong value that are told."""
NUMBERS = (int, float)


class Rule(NamedTuple):
    """What a value has to be, and that in words."""

    holds: Callable[[Any], bool]
    words: str


def check_fields(kind: type, data: Mapping[str, Any]) -> None:
    """Raise UserError where an entry of ``data``, from JSON, is not of the type of the field in the dataclass ``kind``.

    Whole numbers have to be 0 or above, and batch sizes and images 1; no number may be infinite or NaN.
    """
    for name, rule in _rules(kind):
        if name in data and not rule.holds(data[name]):
            told = json.dumps(data[name])
            told = told if len(told) <= SHOWN else told[:SHOWN] + "..."
            raise UserError(f"{name} = {told}, must be {rule.words}; was it edited by hand?")


@cache
def _rules(kind: type) -> tuple[tuple[str, Rule], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (entry.name, AT_LEAST_ONE if entry.name in COUNTED else _rule(hints[entry.name]))
        for entry in fields(kind)
    )


def _rule(hint: Any) -> Rule:
    """The rule for values of the type ``hint`` after they were JSON."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (held,) = (_rule(one) for one in arguments if one is not type(None))
        return Rule(lambda value: value is None or held.holds(value), f"{held.words} or null")
    if origin is tuple and arguments[-1] is not Ellipsis:
        return Rule(lambda value: _are_numbers(value) and len(value) == len(arguments), "two finite numbers")
    if origin is tuple:
        return _list_of(arguments[0])
    if isinstance(hint, type) and is_dataclass(hint):
        return Rule(lambda value: _is_one(hint, value), f"the entries of a {hint.__name__.lower()}")
    held = _rule(arguments[1])
    return Rule(
        lambda value: type(value) is dict and all(map(held.holds, value.values())),
        f"entries, each {held.words}",
    )


def _list_of(hint: Any) -> Rule:
    if hint is float:  # thousands in a record
        return Rule(_are_numbers, "a list of finite numbers")
    held = _rule(hint)
    return Rule(
        lambda value: type(value) is list and all(map(held.holds, value)), f"a list, each {held.words}"
    )


def _is_one(kind: type, value: Any) -> bool:
    return type(value) is dict and all(
        rule.holds(value[name]) for name, rule in _rules(kind) if name in value
    )


def _is_number(value: Any) -> bool:
    return type(value) in NUMBERS and _are_numbers([value])


def _are_numbers(values: Any) -> bool:
    """A sum is finite only where each of its parts is; to look at each type would take long."""
    try:
        return type(values) is list and math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


LARGEST = 2**63 - 1
"""What NumPy and other readers of JSON take."""
PLAIN: Mapping[Any, Rule] = {
    str: Rule(lambda value: type(value) is str, "a text"),
    bool: Rule(lambda value: type(value) is bool, "true or false"),
    int: Rule(_is_whole, "a whole number of at least 0"),
    float: Rule(_is_number, "a finite number"),
    Any: Rule(lambda value: True, "anything"),
}
COUNTED = ("batch", "images")
AT_LEAST_ONE = Rule(lambda value: _is_whole(value) and value > 0, "a whole number above 0")
