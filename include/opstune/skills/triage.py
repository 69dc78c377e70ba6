"""triage: an incident → severity, root cause, mitigation and prevention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from opstune.skills.base import Json, Scores, closed_object, render_record, similarity

SEVERITIES = ("SEV-0", "SEV-1", "SEV-2", "SEV-3")
#: A root cause counts as found from this similarity on; below it, words that carry the cause differ.
SAME_CAUSE = 0.8


class TriageContext(BaseModel):
    """An incident as it is first known; a team's own fields may stand beside these."""

    model_config = ConfigDict(extra="allow")

    title: str = Field(min_length=1)


class TriageAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    severity: Literal["SEV-0", "SEV-1", "SEV-2", "SEV-3"]
    root_cause: str = ""
    mitigation: str = ""
    prevention: str = ""


class Triage:
    name = "triage"
    context_model = TriageContext
    answer_model = TriageAnswer

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
        return closed_object(properties, required=["severity"])

    def label(self, answer: Mapping[str, Any]) -> str:
        return str(answer["severity"])

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is the severity; ``root_cause`` counts where the history knows one."""
        found = predicted or {}
        right = found.get("severity") == expected["severity"]
        scores = {"correct": right, "severity": right}
        if expected.get("root_cause"):
            scores["root_cause"] = similarity(str(found.get("root_cause", "")), expected["root_cause"]) >= SAME_CAUSE
        return scores
