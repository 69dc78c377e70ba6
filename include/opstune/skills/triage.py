"""triage: an incident → severity, root cause, mitigation and prevention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from opstune.skills.base import Json, Scores, closed_object, render_record, similarity

SEVERITIES = ("SEV-0", "SEV-1", "SEV-2", "SEV-3")
#: A root cause counts as found from this similarity on; below it, words that carry the cause differ.
SAME_CAUSE = 0.8


class TriageContext(BaseModel):
    """An incident as it is first known; a team's own fields may stand beside these.

    ``asked`` may list which parts of the answer are wanted, for history that knows only some: a runbook tells
    the mitigation of an alert but not how severe it is. Without it the severity is always wanted.
    """

    model_config = ConfigDict(extra="allow")

    title: str = Field(min_length=1)


class TriageAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    severity: Literal["SEV-0", "SEV-1", "SEV-2", "SEV-3"] | None = None
    root_cause: str = ""
    mitigation: str = ""
    prevention: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> TriageAnswer:
        if not (self.severity or self.root_cause or self.mitigation or self.prevention):
            raise ValueError("a triage without severity, root cause, mitigation or prevention says nothing")
        return self


class Triage:
    name = "triage"
    context_model = TriageContext
    answer_model = TriageAnswer
    metrics = ("correct", "severity", "root_cause")

    def render(self, context: Mapping[str, Any]) -> str:
        return render_record("triage this incident", context)

    def schema(self, context: Mapping[str, Any]) -> Json:
        text = {"type": "string", "maxLength": 200}
        properties = {
            "severity": {"enum": list(SEVERITIES)},
            "root_cause": text,
            "mitigation": text,
            "prevention": text,
        }
        if asked := context.get("asked"):
            return closed_object({name: properties[name] for name in properties if name in asked})
        return closed_object(properties, required=["severity"])

    def label(self, answer: Mapping[str, Any]) -> str:
        return str(answer.get("severity") or "no severity")

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is the severity, or where the history knows none that every text is found again;
        ``root_cause`` counts where the history knows one."""
        found = predicted or {}
        same = {
            name: similarity(str(found.get(name, "")), expected[name]) >= SAME_CAUSE
            for name in ("root_cause", "mitigation", "prevention")
            if expected.get(name)
        }
        cause = {"root_cause": same["root_cause"]} if "root_cause" in same else {}
        if not expected.get("severity"):
            return {"correct": all(same.values()), **cause}
        right = found.get("severity") == expected["severity"]
        return {"correct": right, "severity": right, **cause}
