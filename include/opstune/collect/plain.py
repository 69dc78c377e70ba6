"""Values as JSON can hold them: what databases, files and people put into records, and how it is quoted to people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

#: Levels of nesting that a record may have; its consumers (pydantic, json) end at some hundreds.
DEEPEST = 50
#: Characters of a value that a reason quotes.
_SHOWN = 80
#: Whole numbers beyond this have no exact place in a table, nor a meaning here.
_LONGEST = 10**300


def plain(value: Any, level: int = 0) -> Any:
    """The value out of text, numbers, truth values, none, lists, and mappings with text keys.

    Times become ISO 8601, numbers that are none (NaN, infinity) their text, bytes UTF-8, half of a surrogate pair
    the replacement character, all else its text.

    Raises:
        ValueError: it is nested too deeply.
    """
    if isinstance(value, str):
        return value if value.isascii() else _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if level > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(inner, level + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner, level + 1) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")
    return _text(str(value))


def parse_json(text: str) -> Any:
    """A JSON text as plain values.

    Raises:
        ValueError: it is not JSON, an object has one key twice with different values, or it is nested too deeply.
    """
    try:
        return plain(_DECODER.decode(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shown(value: Any) -> str:
    """A value as a reason quotes it: cut, and never an error of its own."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, bottomless lists
        text = f"a {type(value).__name__} that cannot be shown"
    return _text(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _text(value: str) -> str:
    """Without lone surrogates, which have no place in UTF-8; a pair of them is one character."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: float | Decimal) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > 300:
            return str(value)
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, int):
        return value if abs(value) < _LONGEST else "a number too long to keep"
    return float(value) if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise ValueError(f"the key {shown(key)} stands twice, with different values")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
