"""log_error: a task log → the error's message, category, severity, confidence and reasoning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from opstune.skills.base import Json, Scores, closed_object, render_record

CATEGORIES = ("code", "configuration", "data", "dependency", "network", "permission", "resource", "timeout")
SEVERITIES = ("low", "medium", "high", "critical")
_TIMESTAMP = r"\d{4}-\d\d-\d\d[T ][\d:.,]+\S*\s+|(?:\d\d:){2}\d\d\S*\s+"
_LEVEL = r"(?:DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\W+"
_PREFIX = re.compile(rf"^\W*(?:{_TIMESTAMP}|{_LEVEL})")


class LogErrorContext(BaseModel):
    model_config = ConfigDict(extra="allow")

    log: str = Field(min_length=1)


class LogErrorAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    message: str
    category: Literal["code", "configuration", "data", "dependency", "network", "permission", "resource", "timeout"]
    severity: Literal["low", "medium", "high", "critical"]
    confidence: Literal["low", "medium", "high"] = "high"
    reasoning: str = ""


def statements(log: str) -> list[str]:
    """The lines of a log without timestamp and level, in order, each once: what a message may quote."""
    found = dict.fromkeys(_strip(line) for line in log.splitlines())
    return [line for line in found if line]


def _strip(line: str) -> str:
    while (shorter := _PREFIX.sub("", line, count=1)) != line:
        line = shorter
    return line.strip()


class LogError:
    """The message is one of the log's own lines, never an invented one."""

    name = "log_error"
    context_model = LogErrorContext
    answer_model = LogErrorAnswer
    metrics = ("correct", "category", "severity", "message")

    def render(self, context: Mapping[str, Any]) -> str:
        return render_record("find the error in this log", context)

    def schema(self, context: Mapping[str, Any]) -> Json:
        properties = {
            "message": {"enum": statements(context["log"])},
            "category": {"enum": list(CATEGORIES)},
            "severity": {"enum": list(SEVERITIES)},
            "confidence": {"enum": ["low", "medium", "high"]},
            "reasoning": {"type": "string", "maxLength": 200},
        }
        return closed_object(properties, required=["message", "category", "severity", "confidence"])

    def label(self, answer: Mapping[str, Any]) -> str:
        return str(answer["category"])

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is category and severity; ``message`` is the quoted line, spaces aside."""
        found = predicted or {}
        category = found.get("category") == expected["category"]
        severity = found.get("severity") == expected["severity"]
        quoted = " ".join(str(found.get("message", "")).split()) == " ".join(expected["message"].split())
        message = predicted is not None and quoted
        return {"correct": category and severity, "category": category, "severity": severity, "message": message}
