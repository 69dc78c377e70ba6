"""What a skill is, and how a context becomes a prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Protocol

from pydantic import BaseModel

#: The one system message of training, evaluation and serving; the Modelfile carries the same.
SYSTEM = "You are an on-call assistant. Answer in JSON."

Json = dict[str, Any]
#: Per case: which statements about the prediction hold. A metric that does not apply is absent.
Scores = dict[str, bool]


class Skill(Protocol):
    """One thing the model is taught. Pure: no files, no clock, no model."""

    @property
    def name(self) -> str: ...

    @property
    def context_model(self) -> type[BaseModel]: ...

    @property
    def answer_model(self) -> type[BaseModel]: ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every name that ``score`` may give; what a gate may ask for."""
        ...

    def render(self, context: Mapping[str, Any]) -> str:
        """The user message of one case."""
        ...

    def schema(self, context: Mapping[str, Any]) -> Json:
        """The JSON schema of the answer, narrowed to this case where the skill can."""
        ...

    def label(self, answer: Mapping[str, Any]) -> str:
        """The class of an answer, for balance, slices and confusion tables."""
        ...

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """What holds of a prediction; ``correct`` is always there. An invalid answer is ``None``."""
        ...


def messages(skill: Skill, context: Mapping[str, Any]) -> list[dict[str, str]]:
    """The chat that asks a skill about one case."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": skill.render(context)}]


def render_record(task: str, context: Mapping[str, Any]) -> str:
    """``key: value`` lines under the task; mappings and longer texts become indented blocks."""
    lines = [f"task: {task}"]
    for key, value in context.items():
        if value in (None, "", {}, []):
            continue
        if isinstance(value, Mapping):
            block = [f"{name}: {item}" for name, item in value.items()]
        elif isinstance(value, list):
            block = [f"- {item}" for item in value]
        elif "\n" in str(value):
            block = str(value).splitlines()
        else:
            lines.append(f"{key}: {value}")
            continue
        lines += [f"{key}:", *(f"  {line}" for line in block)]
    return "\n".join(lines)


def closed_object(properties: Mapping[str, Any], required: list[str] | None = None) -> Json:
    """A JSON schema of an object with these properties and no others, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def as_texts(value: Any) -> Any:
    """A mapping with each value as text: readings, counts and flags come as numbers and the like as well."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str)
        for name, item in value.items()
        if item is not None
    }


def list_of(items: Mapping[str, Any], most: int, least: int = 0) -> Json:
    """A JSON schema of a list. ``uniqueItems`` stays out: llama.cpp's grammars cannot express it."""
    return {"type": "array", "items": dict(items), "minItems": least, "maxItems": most}


def similarity(left: str, right: str) -> float:
    """Share of matching words, in order, of two phrases (Ratcliff and Obershelp's 2M/T), 0 to 1.

    Two phrases without a word are alike only where they are the same: what is missing is like nothing.
    """
    first, second = (re.findall(r"[\w./:-]+", text.lower()) for text in (left, right))
    if not first and not second:
        return float(left == right)
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def overlap(expected: Sequence[str], found: Sequence[str], alike: float) -> float:
    """F1 of two lists of texts whatever their order, 0 to 1: twice the pairs over the items of both.

    Each text pairs with at most one other, the most alike first, from a ``similarity`` of ``alike`` on.
    ``expected`` holds at least one.
    """
    pairs = ((similarity(one, other), i, j) for i, one in enumerate(expected) for j, other in enumerate(found))
    left, right = set(range(len(expected))), set(range(len(found)))
    for likeness, i, j in sorted(pairs, reverse=True):
        if likeness >= alike and i in left and j in right:
            left.remove(i)
            right.remove(j)
    return 2 * (len(expected) - len(left)) / (len(expected) + len(found))


def target(answer: Mapping[str, Any]) -> str:
    """The answer as the model is taught to write it: compact JSON."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
