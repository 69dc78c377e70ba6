"""audit: an audit entry → its risk, security impact, root cause and recommended actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from opstune.skills.base import Json, Scores, as_texts, closed_object, list_of, overlap, render_record
from opstune.skills.diagnosis import SAME_STEPS, same_cause
from opstune.skills.triage import SAME_CAUSE

RISKS = ("low", "medium", "high", "critical")
Risk = Literal["low", "medium", "high", "critical"]
#: What is of this risk or above it must not pass as something milder.
SERIOUS = "high"


class AuditContext(BaseModel):
    """Who did what to which thing, with what outcome, from where and when; a team's own fields may stand beside."""

    model_config = ConfigDict(extra="allow")

    actor: str = Field(min_length=1)
    resource: str = ""
    outcome: str = ""
    details: Annotated[dict[str, str] | str, BeforeValidator(as_texts)] = ""
    action: str = Field(min_length=1)
    origin: str = ""
    time: str = ""


class AuditAnswer(BaseModel):
    """``actions`` are left out where nothing is to be done."""

    model_config = ConfigDict(extra="forbid")

    risk: Risk
    security_impact: str = ""
    root_cause: str = ""
    actions: list[str] | None = None


class Audit:
    name = "audit"
    context_model = AuditContext
    answer_model = AuditAnswer
    metrics = ("correct", "risk", "underrated", "security_impact", "root_cause", "actions")

    def render(self, context: Mapping[str, Any]) -> str:
        return render_record("assess this audit entry", context)

    def schema(self, context: Mapping[str, Any]) -> Json:
        text = {"type": "string", "maxLength": 200}
        properties = {
            "risk": {"enum": list(RISKS)},
            "security_impact": text,
            "root_cause": text,
            "actions": list_of({"type": "string", "maxLength": 120}, most=6),
        }
        return closed_object(properties, required=["risk"])

    def label(self, answer: Mapping[str, Any]) -> str:
        return str(answer["risk"])

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is the risk; impact, cause and actions count where the history knows them.

        ``underrated`` counts where the risk is serious: a milder one was given, or none, since an invalid
        answer warns nobody either.
        """
        found = predicted or {}
        right = found.get("risk") == expected["risk"]
        scores = {"correct": right, "risk": right}
        if RISKS.index(expected["risk"]) >= RISKS.index(SERIOUS):
            scores["underrated"] = found.get("risk") not in RISKS[RISKS.index(expected["risk"]) :]
        for text in ("security_impact", "root_cause"):
            if expected.get(text):
                scores[text] = same_cause(expected[text], str(found.get(text, "")))
        if expected.get("actions"):
            scores["actions"] = overlap(expected["actions"], found.get("actions") or (), SAME_CAUSE) >= SAME_STEPS
        return scores
