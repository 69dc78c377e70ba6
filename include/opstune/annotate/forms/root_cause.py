"""Root-cause validation: an incident's cause and severity, held against what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opstune.annotate.forms.base import CANNOT_SAY, Choice, Given, Json, Reading, case_of, chosen, written
from opstune.examples import Example
from opstune.skills.diagnosis import same_cause
from opstune.skills.triage import SEVERITIES

_CORRECT = "correct"


class RootCauseValidation:
    """The label is the validation and the severity; the texts of two corrections need only name one cause."""

    name = "root_cause"
    skill = "triage"

    def catalogues(self) -> dict[str, Sequence[Choice]]:
        return {"severities": [Choice(name) for name in SEVERITIES]}

    def shown(self, example: Example) -> Json:
        return {"case": case_of(example, leave_out=["asked"]), "title": str(example.context.get("title", ""))}

    def prefilled(self, answer: Mapping[str, Any], example: Example) -> list[Json]:
        cause = str(answer.get("root_cause") or "")
        return [*chosen("severity", str(answer.get("severity") or "")), *written("cause", cause)]

    def read(self, given: Given, proposal: Mapping[str, Any], example: Example) -> Reading:
        validation = given.choice("validation")
        if validation == CANNOT_SAY:
            return Reading(CANNOT_SAY)
        severity = given.choice("severity") or str(proposal.get("severity") or "")
        known = str(proposal.get("root_cause") or "")
        cause = known if validation == _CORRECT else given.text("cause")
        if not validation:
            return Reading(fault="nothing was chosen")
        if validation == _CORRECT and not cause:
            return Reading(fault="the cause was called correct, and none was shown")
        if not cause or (validation == "wrong" and cause == known):
            return Reading(fault=f"the cause was called {validation}, and no other was written")
        if not severity and not example.context.get("asked"):
            return Reading(fault="no severity was chosen")
        answer = {**proposal, "root_cause": cause, **({"severity": severity} if severity else {})}
        label = ", ".join(filter(None, (validation, severity)))
        return Reading(label, answer, given.stars("quality"), given.text("evidence"))

    def same(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return one.get("severity") == other.get("severity") and same_cause(one["root_cause"], other["root_cause"])
