"""diagnosis: symptoms, telemetry and topology → root cause, diagnostic query, critical paths and remediation steps."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from opstune.skills.base import Json, Scores, as_texts, closed_object, list_of, overlap, render_record, similarity
from opstune.skills.triage import SAME_CAUSE

#: Between the services of a path, caller first.
ARROW = " > "
#: Paths count as found from this F1 on: of three paths one may be missing, of two none.
SAME_PATHS = 0.8
#: Steps are free texts, and one thing can be done in several ways: half of them, by F1, must be the ones known.
SAME_STEPS = 0.5
#: The longest path and how many of them a topology offers, shortest first. An incident shows its neighbourhood;
#: a whole company's graph has more paths than a grammar can hold.
LONGEST, MOST_PATHS = 8, 500

_NAME = re.compile(r"[\w./:-]*[\d_-][\w./:-]*")
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[\w:.]+|[^\w\s]")
_SQL = re.compile(r"(?i)\s*(?:select|with|show|explain)\b")
_TABLE = re.compile(r"(?i)\bfrom\s+([\w.\"]+)")
_METRIC = re.compile(r"([A-Za-z_:][\w:]*)\s*[{\[]")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _calls(value: Any) -> Any:
    """A service that calls one, or none, may say so without a list."""
    if not isinstance(value, Mapping):
        return value
    return {service: [] if called is None else _as_list(called) for service, called in value.items()}


class DiagnosisContext(BaseModel):
    """What is known when the search begins; a team's own fields may stand beside these.

    ``telemetry`` is what was measured → its reading; ``topology`` a service → the services that it calls.
    """

    model_config = ConfigDict(extra="allow")

    topology: Annotated[dict[str, list[str]], BeforeValidator(_calls)] = Field(default_factory=dict)
    telemetry: Annotated[dict[str, str], BeforeValidator(as_texts)] = Field(default_factory=dict)
    symptoms: Annotated[list[str], BeforeValidator(_as_list)] = Field(min_length=1)


class DiagnosisAnswer(BaseModel):
    """``query`` is PromQL or SQL that shows the cause. What a history does not know is left out."""

    model_config = ConfigDict(extra="forbid")

    root_cause: str = Field(min_length=1)
    query: str = ""
    critical_paths: list[str] | None = None
    remediation: list[str] | None = None


class Diagnosis:
    """Critical paths are paths of this very topology: no call can be invented."""

    name = "diagnosis"
    context_model = DiagnosisContext
    answer_model = DiagnosisAnswer
    metrics = ("correct", "root_cause", "query", "paths", "remediation")

    def render(self, context: Mapping[str, Any]) -> str:
        calls = {service: ", ".join(called) for service, called in context.get("topology", {}).items()}
        return render_record("find the root cause", {**context, "topology": calls})

    def schema(self, context: Mapping[str, Any]) -> Json:
        properties = {
            "root_cause": {"type": "string", "minLength": 1, "maxLength": 200},
            "query": {"type": "string", "maxLength": 300},
            "critical_paths": list_of({"enum": paths(context.get("topology", {}))}, most=8),
            "remediation": list_of({"type": "string", "maxLength": 120}, most=6),
        }
        if not properties["critical_paths"]["items"]["enum"]:
            del properties["critical_paths"]
        return closed_object(properties, required=["root_cause"])

    def label(self, answer: Mapping[str, Any]) -> str:
        """What the query looks at: its first metric or table."""
        return subject(str(answer.get("query") or ""))

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is the root cause; query, paths and remediation count where the history knows them."""
        found = predicted or {}
        cause = same_cause(expected["root_cause"], str(found.get("root_cause", "")))
        scores = {"correct": cause, "root_cause": cause}
        if expected.get("query"):
            query = str(found.get("query", ""))
            scores["query"] = bool(query) and normalised(query) == normalised(expected["query"])
        if known := expected.get("critical_paths"):
            scores["paths"] = overlap(known, found.get("critical_paths") or (), 1.0) >= SAME_PATHS
        if known := expected.get("remediation"):
            scores["remediation"] = overlap(known, found.get("remediation") or (), SAME_CAUSE) >= SAME_STEPS
        return scores


def paths(topology: Mapping[str, Sequence[str]]) -> list[str]:
    """Every way along the calls that visits no service twice, also of one service alone; the shortest first."""
    services = dict.fromkeys([*topology, *(service for called in topology.values() for service in called)])
    found: list[tuple[str, ...]] = []
    waiting: deque[tuple[str, ...]] = deque((service,) for service in services)
    while waiting and len(found) < MOST_PATHS:
        path = waiting.popleft()
        found.append(path)
        if len(path) < LONGEST:
            onward = dict.fromkeys(topology.get(path[-1], ()))
            waiting.extend((*path, service) for service in onward if service not in path)
    return [ARROW.join(path) for path in found]


def same_cause(expected: str, found: str) -> bool:
    """Whether two texts name one cause: alike in their words, and every name in the first stands in the second.

    Without the names, a cause that blames the wrong one of two services would count as found.
    """
    names, named = (set(_NAME.findall(text.lower())) for text in (expected, found))
    return names <= named and similarity(expected, found) >= SAME_CAUSE


def normalised(query: str) -> tuple[str, ...]:
    """The query's tokens: spaces aside, label matchers of PromQL in any order, keywords of SQL in any case."""
    tokens = _TOKEN.findall(query.strip().rstrip(";"))
    if _SQL.match(query):
        return tuple(token if token[0] in "\"'" else token.lower() for token in tokens)
    made: list[str] = []
    matchers: list[str] | None = None
    for token in tokens:
        text = f'"{token[1:-1]}"' if token[0] == "'" else token
        if text == "{":
            matchers = [""]
        elif text == "}" and matchers is not None:
            made += ["{", *sorted(filter(None, matchers)), "}"]
            matchers = None
        elif matchers is None:
            made.append(text)
        elif text == ",":
            matchers.append("")
        else:
            matchers[-1] += text
    return tuple(made)


def subject(query: str) -> str:
    """The first table of an SQL query, the first metric of a PromQL one; ``none`` without a query."""
    found = (_TABLE if _SQL.match(query) else _METRIC).search(query) or re.search(r"(\w+)(?![\w(])", query)
    return found[1] if found else "none"
