"""What an example says, text by text, and which of them the keys around them give away as secrets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from opstune.dataset.assignments import is_secret_of, strength
from opstune.examples import Example

#: Texts and records of an example that come from its source; the other fields are hashes and fixed words.
TEXTS = ("source_id", "group_id", "annotator", "notes")
RECORDS = ("context", "answer", "corrections", "metadata")
#: In ``{"name": "DB_PASSWORD", "value": "..."}`` and ``{"password": {"value": "..."}}`` another key tells.
_VALUES = {"value", "Value", "default", "current", "plaintext", "text"}
#: Where a Kubernetes secret holds what it holds.
_DATA = {"data", "stringData"}
#: The key that everything in a Kubernetes secret counts as.
_SECRET_DATA = "kubernetes_password"
#: Stands for a value that its key gives away, in what the quick look looks at.
_GIVEN_AWAY = "password=hunter2"


def given_away(value: Any, key: str) -> bool:
    """Whether a text or number is a secret because of its key."""
    if not key or not strength(key) or isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return is_secret_of(key, str(value))


def telling(mapping: Mapping[Any, Any], name: str, key: str) -> str:
    """The key that tells what the value under a name is: mostly the name itself."""
    if key == _SECRET_DATA or (name in _DATA and mapping.get("kind") == "Secret"):
        return _SECRET_DATA
    if name not in _VALUES:
        return name
    named = mapping.get("name", mapping.get("key"))
    return named if isinstance(named, str) and strength(named) else key or name


@lru_cache(maxsize=10_000)
def _tells_nothing(name: str) -> bool:
    """Whether a name makes no text under it a secret."""
    return not strength(name) and name not in _VALUES and name not in _DATA


def seen(example: Example) -> list[str]:
    """Every key and text of an example, and a mark for each that its key gives away."""
    lines: list[str] = []
    _gather({name: getattr(example, name) for name in (*TEXTS, *RECORDS)}, "", lines)
    return lines


def _gather(value: Any, key: str, lines: list[str]) -> None:
    if isinstance(value, str):
        lines.append(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            name = str(name)
            lines.append(name)
            tells = not _tells_nothing(name) or (key and telling(value, name, key))
            if isinstance(item, str) and not tells:
                lines.append(item)
            else:
                _gather(item, telling(value, name, key) if tells else "", lines)
    elif isinstance(value, list | tuple):
        for item in value:
            _gather(item, key, lines)
    if key and given_away(value, key):
        lines.append(_GIVEN_AWAY)
