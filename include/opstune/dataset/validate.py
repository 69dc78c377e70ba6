"""Which examples may teach: the right skill, a good outcome, valid under the skill's models.

Each example that may not is a ``Drop`` with its reason; nothing goes silently.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from opstune import skills
from opstune.examples import Example, what_is_wrong

#: Answers that people rated below this, of 5, are no examples to follow.
MINIMUM_RATING = 3

NOT_CONFIGURED = "skill is not configured"
UNANSWERED = "nobody knows the answer yet: it waits for annotation"
FAILED = "outcome was a failure"
LOW_RATING = f"rated below {MINIMUM_RATING}"
UNUSABLE = "marked unusable"
BAD_CONTEXT = "context is not valid"
BAD_ANSWER = "answer is not valid"
OUT_OF_REACH = "answer is not possible in its context"
OVERRULED = "a person answered the same question otherwise"


@dataclass(frozen=True)
class Drop:
    """One example that was left out. ``detail`` says more, or names the example that was kept instead."""

    id: str
    skill: str
    source: str
    source_id: str
    reason: str
    detail: str = ""

    @classmethod
    def of(cls, example: Example, reason: str, detail: str = "") -> Drop:
        return cls(example.id, example.skill, example.source, example.source_id, reason, detail)

    def record(self) -> dict[str, str]:
        return asdict(self)


def usable(examples: Iterable[Example], configured: Sequence[str]) -> tuple[list[Example], list[Drop]]:
    """Split examples into those that may teach, in canonical form, and the others with a reason.

    Canonical: the keys of context and answer stand in their model's order, so that one answer has one
    text, and optional texts that are empty are left out of the answer instead of being taught.

    Raises:
        ConfigError: ``configured`` names a skill that does not exist.
    """
    wanted = {name: skills.get(name) for name in configured}
    kept: list[Example] = []
    dropped: list[Drop] = []
    for example in examples:
        skill = wanted.get(example.skill)
        reason, detail = (NOT_CONFIGURED, "") if skill is None else _unfit(example)
        if skill is not None and not reason:
            context, detail = _canonical(skill.context_model, example.context)
            answer, detail_of_answer = _canonical(skill.answer_model, example.answer)
            if context is None:
                reason = BAD_CONTEXT
            elif answer is None:
                reason, detail = BAD_ANSWER, detail_of_answer
            else:
                answer = {key: value for key, value in answer.items() if value not in ("", None)}
                kept.append(example.model_copy(update={"context": context, "answer": answer}))
                continue
        dropped.append(Drop.of(example, reason, detail))
    return kept, dropped


def reachable(examples: Iterable[Example]) -> tuple[list[Example], list[Drop]]:
    """Keep the examples whose answer the skill's schema of that very case allows.

    Decoding is bound to that schema, so an answer outside it (a pod that no label names, an error
    message that is no line of the log) could never be given, and teaches to invent.
    """
    kept: list[Example] = []
    dropped: list[Drop] = []
    for example in examples:
        if allows(skills.get(example.skill).schema(example.context), example.answer):
            kept.append(example)
        else:
            dropped.append(Drop.of(example, OUT_OF_REACH))
    return kept, dropped


def settled(examples: Sequence[Example], tested: Collection[str]) -> tuple[list[Example], list[Drop]]:
    """Leave out the unvalidated examples whose question a person has answered in another way.

    Those in ``tested`` (ids) stay: what is once in test stays.
    """
    answered: dict[tuple[str, str], dict[str, str]] = {}
    for example in examples:
        if example.human_validated:
            answered.setdefault(_question(example), {}).setdefault(_text(example.answer), example.id)
    kept: list[Example] = []
    dropped: list[Drop] = []
    for example in examples:
        known = None if example.human_validated or example.id in tested else answered.get(_question(example))
        if known and _text(example.answer) not in known:
            dropped.append(Drop.of(example, OVERRULED, next(iter(known.values()))))
        else:
            kept.append(example)
    return kept, dropped


def allows(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a value is possible under one of the schemas that skills build.

    Covers what those use (oneOf, const, enum, closed objects, arrays); lengths of free texts are left to the
    decoder. jsonschema compiles each case's own schema first, which takes a hundred times as long.
    """
    if "oneOf" in schema:
        return any(allows(choice, value) for choice in schema["oneOf"])
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema:
        return value in schema["enum"]
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if not isinstance(value, Mapping) or any(name not in value for name in schema.get("required", ())):
            return False
        if schema.get("additionalProperties") is False and any(name not in properties for name in value):
            return False
        return all(allows(properties[name], item) for name, item in value.items() if name in properties)
    if schema.get("type") == "array":
        fits = isinstance(value, list) and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(allows(schema["items"], item) for item in value)
    return True


def _unfit(example: Example) -> tuple[str, str]:
    if example.outcome == "failure":
        return FAILED, ""
    if example.rating is not None and example.rating < MINIMUM_RATING:
        return LOW_RATING, f"rated {example.rating}"
    if example.metadata.get("unusable"):
        return UNUSABLE, ""
    if not example.answer:
        return UNANSWERED, ""
    return "", ""


def _question(example: Example) -> tuple[str, str]:
    return example.skill, _text(example.context)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _canonical(model: type[BaseModel], value: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The value as the model orders it, or none and what is wrong (keys and rules, never the value itself)."""
    try:
        return model.model_validate(value).model_dump(mode="json"), ""
    except ValidationError as error:
        return None, what_is_wrong(error)
