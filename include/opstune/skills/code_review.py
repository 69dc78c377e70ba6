"""code_review: a piece of code or a diff → what is dangerous in it, line by line, and the risk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from opstune.skills.audit import RISKS, Risk
from opstune.skills.base import Json, Scores, closed_object, list_of, render_record

#: What a finding may be, each with what it means.
KINDS = {
    "hard_coded_secret": "a password, key or token stands in the text",
    "wide_role": "a role or policy allows far more than is needed",
    "risky_trigger": "outsiders can start it, and it runs with rights or secrets",
    "open_network": "it is reachable from everywhere",
    "privileged_container": "a container runs as root or with the host's rights",
    "unpinned_version": "what runs can change without a change here",
    "disabled_check": "a check that protects was switched off",
    "unsafe_command": "input reaches a shell, an interpreter or a query unchecked",
    "other": "dangerous in another way",
}
Kind = Literal[
    "hard_coded_secret",
    "wide_role",
    "risky_trigger",
    "open_network",
    "privileged_container",
    "unpinned_version",
    "disabled_check",
    "unsafe_command",
    "other",
]
CLEAN, SEVERAL = "clean", "several"
_DIFF = re.compile(r"(?m)^(?:diff --git |@@ -\d)")
_HEADER = re.compile(r"(?:diff --git |index [0-9a-f]{4}|--- |\+\+\+ |@@ |new file |deleted file |rename |similarity )")


def lines(code: str) -> list[str]:
    """The lines that a finding may quote, each once, without indentation.

    Of a diff these are the lines as they will be, without marks: what goes away can do no harm.
    """
    found = code.splitlines()
    if _DIFF.search(code):
        found = [line[1:] for line in found if not _HEADER.match(line) and not line.startswith(("-", "\\"))]
    return list(dict.fromkeys(line for line in map(str.strip, found) if line))


class CodeReviewContext(BaseModel):
    """A file or its change; a team's own fields may stand beside."""

    model_config = ConfigDict(extra="allow")

    path: str = ""
    kind: Literal["infrastructure", "configuration", "script", "code"] = "code"
    code: str

    @field_validator("code")
    @classmethod
    def _has_lines(cls, code: str) -> str:
        if not lines(code):
            raise ValueError("there is no line to review")
        return code


class Finding(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Kind
    line: str
    advice: str = ""

    @field_validator("line")
    @classmethod
    def _without_indentation(cls, line: str) -> str:
        return line.strip()


class CodeReviewAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    findings: list[Finding]
    risk: Risk


class CodeReview:
    """A finding quotes one of the code's own lines, never an invented one."""

    name = "code_review"
    context_model = CodeReviewContext
    answer_model = CodeReviewAnswer
    metrics = ("correct", "findings", "risk", "false_finding", "missed_finding", "line")

    def render(self, context: Mapping[str, Any]) -> str:
        return render_record("review this code", context)

    def schema(self, context: Mapping[str, Any]) -> Json:
        finding = {
            "kind": {"enum": list(KINDS)},
            "line": {"enum": lines(context["code"])},
            "advice": {"type": "string", "maxLength": 120},
        }
        return closed_object({"findings": list_of(closed_object(finding), most=8), "risk": {"enum": list(RISKS)}})

    def label(self, answer: Mapping[str, Any]) -> str:
        """The kind of the finding, or that there are several kinds, or none."""
        kinds = _kinds(answer)
        return CLEAN if not kinds else kinds.pop() if len(kinds) == 1 else SEVERAL

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is the right set of kinds and the risk.

        Precision and recall as statements about a case, since shares of cases are what can be bounded:
        ``false_finding`` counts everywhere and holds where a kind was found that is not there;
        ``missed_finding`` counts where there is something to find and holds where a kind of it was not
        found. ``line`` counts where the kinds are right and there are some: each at its right line.
        An invalid answer claims nothing, so it is no false finding, and finds nothing.
        """
        found = predicted or {"findings": []}
        there, told = _kinds(expected), _kinds(found)
        right, risk = predicted is not None and there == told, found.get("risk") == expected["risk"]
        scores = {"correct": right and risk, "findings": right, "risk": risk, "false_finding": bool(told - there)}
        if there:
            scores["missed_finding"] = bool(there - told)
            if right:
                scores["line"] = _placed(expected) == _placed(found)
        return scores


def _kinds(answer: Mapping[str, Any]) -> set[str]:
    return {finding["kind"] for finding in answer["findings"]}


def _placed(answer: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(finding["kind"], " ".join(finding["line"].split())) for finding in answer["findings"]}
