"""A Modelfile as the fields of Ollama's create request, which takes no Modelfile itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opstune.errors import IntegrityError

#: One instruction: its name, and a value that may stand between three quotes over several lines.
_INSTRUCTION = re.compile(r'^(?P<name>[A-Z]+)[ \t]+(?:"""(?P<long>.*?)"""|(?P<short>[^\n]*))$', re.S | re.M)
_KNOWN = ("FROM", "TEMPLATE", "SYSTEM", "PARAMETER")


@dataclass(frozen=True)
class Modelfile:
    """``parameters`` as Ollama's API takes them: numbers as numbers, ``stop`` as a list."""

    template: str
    system: str
    parameters: dict[str, Any] = field(default_factory=dict)


def read(file: Path) -> Modelfile:
    """The Modelfile that ``convert`` wrote.

    Raises:
        IntegrityError: it is missing, or holds an instruction that would be lost on the way.
    """
    todo = "Convert and register the run again."
    try:
        text = file.read_text()
    except OSError as error:
        raise IntegrityError(f"{file} cannot be read", "Modelfile", todo) from error
    found = [(one["name"], one["short"] if one["long"] is None else one["long"]) for one in _INSTRUCTION.finditer(text)]
    left = _INSTRUCTION.sub("", text).strip()
    unknown = sorted({name for name, _ in found} - set(_KNOWN))
    if left or unknown:
        raise IntegrityError(f"{file} holds {', '.join(unknown) or left.splitlines()[0]!r}", "Modelfile", todo)
    once = {name: value for name, value in found if name != "PARAMETER"}
    parameters = _parameters([value for name, value in found if name == "PARAMETER"])
    return Modelfile(once.get("TEMPLATE", ""), once.get("SYSTEM", ""), parameters)


def parameters_of_show(text: str) -> dict[str, Any]:
    """The parameters as ``/api/show`` tells them: a name, spaces and a value a line."""
    return _parameters([line for line in text.splitlines() if line.strip()])


def _parameters(lines: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.strip().partition(" ")
        if name == "stop":
            found.setdefault("stop", []).append(_value(value.strip()))
        else:
            found[name] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    """A number or a quoted text as it is meant; anything else is a text without quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text
