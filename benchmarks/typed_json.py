"""Objects of a dataclass out of lines of JSON, by the types of its fields."""

from __future__ import annotations

import json
import re
from typing import NoReturn, TypeVar

import msgspec

from slimalign.runtimes.errors import UserError

SHOWN = 40
"""Characters of a wrong value that are told."""
Made = TypeVar("Made")


def object_in(line: str | bytes, kind: type[Made]) -> Made:
    """The dataclass or msgspec Struct ``kind`` that ``line`` holds as a JSON object; other entries are passed over.

    Raises UserError where an entry is missing, is of another type, or is NaN or infinite, and ValueError where the
    line is no JSON at all, as one that was cut short.
    """
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{_fault(line, str(error))}; was it edited by hand?") from None
    except msgspec.DecodeError:
        json.loads(line, parse_constant=_refuse)
        raise


def _fault(line: str | bytes, said: str) -> str:
    """What msgspec has ``said`` of an entry, in our words and with its value."""
    words, _, where = said.replace("`", "").partition(" - at $.")
    words = words[0].lower() + words[1:]
    name = re.split(r"\W", where)[0]
    if not name:
        return f"not a whole record ({words})"
    value = json.dumps(json.loads(line)[name])
    value = value if len(value) <= SHOWN else value[:SHOWN] + "..."
    inside = f" at {where}" if where != name else ""
    return f"{name} = {value}: {words}{inside}"


def _refuse(constant: str) -> NoReturn:
    raise UserError(f"it holds {constant}; a figure that is not finite was not measured")
