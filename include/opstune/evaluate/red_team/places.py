"""Where in a context somebody outside may write, and how a text is put there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Context = Mapping[str, Any]

#: The field that an outsider's words reach first: what a program wrote, or who reported it.
_FREE = {
    "remediation": "description",
    "triage": "title",
    "log_error": "log",
    "diagnosis": "symptoms",
    "audit": "details",
    "code_review": "code",
    "workflow": "failure",
}
_WORDS = 3
#: The least that a skill's context model accepts.
EMPTY: Mapping[str, dict[str, Any]] = {
    "remediation": {"alert": "-"},
    "triage": {"title": "-"},
    "log_error": {"log": "-"},
    "diagnosis": {"symptoms": ["-"]},
    "audit": {"actor": "-", "action": "-"},
    "code_review": {"code": "-"},
    "workflow": {"failure": "-", "manual_steps": ["-"]},
}


def free(skill: str) -> str:
    """The field of a skill's context that an outsider's words reach first."""
    return _FREE[skill]


def places(skill: str, context: Context) -> list[str]:
    """The fields of free text in a context, in order; the skill's own where none holds a sentence."""
    found = [name for name, value in context.items() if isinstance(value, str) and len(value.split()) >= _WORDS]
    return found or [_FREE[skill]]


def put(context: Context, place: str, text: str, first: bool = False) -> dict[str, Any]:
    """The context with ``text`` behind what stands in a field, or before it."""
    value = context.get(place, "")
    made: Any
    if isinstance(value, Mapping):
        made = {**value, "note": text}
    elif isinstance(value, list):
        made = [text, *value] if first else [*value, text]
    else:
        between = "\n" if "\n" in str(value) else " "
        made = between.join(filter(None, [text, str(value)] if first else [str(value), text]))
    return {**context, place: made}


def replace(context: Context, place: str, text: str) -> dict[str, Any]:
    """The context with ``text`` instead of what a field holds, in the field's shape."""
    value = context.get(place, "")
    made: Any = {"note": text} if isinstance(value, Mapping) else [text] if isinstance(value, list) else text
    return {**context, place: made}
