"""Log-error review: the line that is the error, its category and severity, how sure one can be, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from opstune.annotate.forms.base import CANNOT_SAY, Choice, Given, Json, Reading, chosen, lines_of, written
from opstune.examples import Example
from opstune.skills.log_error import CATEGORIES, SEVERITIES, LogErrorAnswer, statements

_FOUND = "yes"
_CONFIDENCES: tuple[str, ...] = get_args(LogErrorAnswer.model_fields["confidence"].annotation)


class LogErrorReview:
    """The label is category and severity; the line must be the same too, the reasoning need not."""

    name = "log_error"
    skill = "log_error"

    def catalogues(self) -> dict[str, Sequence[Choice]]:
        found = {"categories": CATEGORIES, "severities": SEVERITIES, "confidences": _CONFIDENCES}
        return {name: [Choice(value) for value in values] for name, values in found.items()}

    def shown(self, example: Example) -> Json:
        log = str(example.context.get("log", ""))
        around = lines_of({key: value for key, value in example.context.items() if key != "log"})
        lines = statements(log)
        return {
            "case": "\n\n".join(filter(None, (around, log))),
            "title": str(example.context.get("job") or example.source_id),
            "lines": [{"value": line} for line in lines],
        }

    def prefilled(self, answer: Mapping[str, Any], example: Example) -> list[Json]:
        if not answer:
            return []
        message = str(answer.get("message") or "")
        known = message if message in statements(str(example.context.get("log", ""))) else ""
        return [
            *chosen("found", _FOUND),
            *chosen("message", known),
            *chosen("category", str(answer.get("category") or "")),
            *chosen("severity", str(answer.get("severity") or "")),
            *chosen("confidence", str(answer.get("confidence") or "")),
            *written("reasoning", str(answer.get("reasoning") or "")),
        ]

    def read(self, given: Given, proposal: Mapping[str, Any], example: Example) -> Reading:
        found = given.choice("found")
        if found == CANNOT_SAY:
            return Reading(CANNOT_SAY)
        answer = {name: given.choice(name) for name in ("message", "category", "severity", "confidence")}
        missing = [name for name, value in answer.items() if not value and name != "confidence"]
        if found != _FOUND or missing:
            return Reading(fault=f"no {' and no '.join(missing)}" if missing else "nothing was chosen")
        if answer["message"] not in statements(str(example.context.get("log", ""))):
            return Reading(fault="the message is no line of the log")
        answer = {**answer, "confidence": answer["confidence"] or _CONFIDENCES[-1]}
        reasoning = given.text("reasoning")
        label = f"{answer['category']}, {answer['severity']}"
        return Reading(label, {**answer, "reasoning": reasoning}, given.stars("quality"))

    def same(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return all(one.get(name) == other.get(name) for name in ("message", "category", "severity"))
