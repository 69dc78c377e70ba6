"""What a person typed, as the structured context that a skill was taught on."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from opstune import skills
from opstune.errors import InputError
from opstune.settings import faults

Context = dict[str, Any]

_PAIR = re.compile(r"""(?<![\w.])([A-Za-z_][\w.-]*)\s*(?:=|:(?!//)\s+|:(?=["']))\s*("[^"]*"|'[^']*'|[^\s,;{}]+)""")
_ALERT_NAME = re.compile(r"\b(?:[A-Z][a-z0-9]+){2,}\b|\b[A-Z][A-Za-z0-9]*[A-Z][A-Za-z0-9]*\b")
_OWN_FIELDS = ("summary", "description", "severity", "status", "reason")


def context_from_text(skill: str, text: str) -> Context:
    """A context from a JSON object (taken as it is) or from plain text (read as the skill expects).

    ``remediation``: ``key=value`` and ``key: value`` pairs become labels, or the field they name; the
    alert is the pair ``alert`` or ``alertname``, else the first CamelCase word, else the first line.
    ``triage``: the first line is the title, pairs are fields, the rest is the description.
    ``log_error``: the text is the log.

    Raises:
        InputError: the text is empty, or the skill cannot use what it says.
        ConfigError: there is no such skill.
    """
    taught = skills.get(skill)
    # Tokenizers compose characters and llama.cpp does not: composed text is the same to both.
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise InputError("there is nothing to answer", skill, "Give an alert, an incident or a log.")
    context = _json_object(text)
    if context is None:
        context = _READERS.get(skill, _as_title)(text)
    try:
        return taught.context_model.model_validate(context).model_dump(exclude_unset=True)
    except ValidationError as error:
        fields = ", ".join(taught.context_model.model_fields)
        what = f"{skill} cannot use this question: {faults(error, lambda _: 'question')}"
        raise InputError(what, skill, f"Its context has the fields {fields}.") from error


def _json_object(text: str) -> Context | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _as_remediation(text: str) -> Context:
    pairs, rest = _pairs(text)
    alert = pairs.pop("alertname", None) or pairs.pop("alert", None)
    if alert is None:
        named = _ALERT_NAME.search(rest)
        alert = named.group() if named else (rest.splitlines() or ["unknown"])[0][:120]
        rest = rest.replace(alert, "", 1)
    context: Context = {"alert": alert}
    context.update({name: pairs.pop(name) for name in _OWN_FIELDS if name in pairs})
    if rest := " ".join(rest.split()).strip(" ,;:-"):
        context.setdefault("summary", rest)
    if pairs:
        context["labels"] = pairs
    return context


def _as_title(text: str) -> Context:
    title, _, body = text.partition("\n")
    pairs, rest = _pairs(body)
    context: Context = {"title": pairs.pop("title", title.strip()), **pairs}
    if rest := rest.strip():
        context.setdefault("description", rest)
    return context


def _as_log(text: str) -> Context:
    return {"log": text}


def _pairs(text: str) -> tuple[dict[str, str], str]:
    """The pairs of a text, and the text without them."""
    found = {name: value.rstrip(":.").strip("\"'") for name, value in _PAIR.findall(text)}
    return found, _PAIR.sub(" ", text).replace("{", " ").replace("}", " ").strip()


_READERS: dict[str, Callable[[str], Context]] = {
    "remediation": _as_remediation,
    "triage": _as_title,
    "log_error": _as_log,
}
