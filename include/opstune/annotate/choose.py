"""Which examples need a human, and why."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from opstune import skills
from opstune.examples import Example
from opstune.settings import AnnotateSettings

UNANSWERED = "nobody knows the answer"
SOURCES_DIFFER = "two records answer the same question differently"
MODEL_DIFFERS = "the model answers otherwise"
UNSURE = "the answer is not sure"
AUDIT = "a sample for audit"
#: In this order people are asked.
REASONS = (UNANSWERED, SOURCES_DIFFER, MODEL_DIFFERS, UNSURE, AUDIT)


@dataclass(frozen=True)
class Guess:
    """A model's answer to an example. ``confidence`` is 0 to 1, none where the engine tells none."""

    answer: Mapping[str, Any]
    confidence: float | None = None


@dataclass(frozen=True)
class Model:
    """A model that may be asked: one guess an example, none where it has no valid answer."""

    name: str
    ask: Callable[[Sequence[Example]], Sequence[Guess | None]]


@dataclass(frozen=True)
class Need:
    """An example that needs a human."""

    example: Example
    why: str


def needs(examples: Sequence[Example], guesses: Mapping[str, Guess], settings: AnnotateSettings) -> list[Need]:
    """The examples of one skill that people should see: by reason, then the newest first.

    What a person has validated is left alone. ``guesses`` are by example id.
    """
    contested = _contested(examples)
    found = [
        Need(example, why)
        for example in examples
        if not example.human_validated and (why := _reason(example, guesses.get(example.id), contested, settings))
    ]
    newest = sorted(found, key=lambda need: (need.example.occurred_at, need.example.id), reverse=True)
    return sorted(newest, key=lambda need: REASONS.index(need.why))


def in_sample(example_id: str, share: float, seed: int) -> bool:
    """Whether an example is in the audit: always the same ones for the same seed, more of them for a larger share."""
    digest = hashlib.sha256(f"audit:{seed}:{example_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _reason(example: Example, guess: Guess | None, contested: set[str], settings: AnnotateSettings) -> str:
    if not example.answer:
        return UNANSWERED
    if example.id in contested:
        return SOURCES_DIFFER
    if guess and _differs(example, guess):
        return MODEL_DIFFERS
    told = [example.answer.get("confidence"), example.metadata.get("confidence"), guess and guess.confidence]
    if any(_is_low(confidence, settings.low_confidence) for confidence in told):
        return UNSURE
    return AUDIT if in_sample(example.id, settings.audit_share, settings.seed) else ""


def _differs(example: Example, guess: Guess) -> bool:
    skill = skills.get(example.skill)
    try:
        known = skill.answer_model.model_validate(example.answer).model_dump()
    except ValidationError:
        return False  # the dataset refuses such an answer by itself and says why
    return not skill.score(known, guess.answer)["correct"]


def _is_low(confidence: Any, line: float) -> bool:
    if isinstance(confidence, str):
        return confidence.lower() == "low"
    return isinstance(confidence, int | float) and not isinstance(confidence, bool) and confidence < line


def _contested(examples: Sequence[Example]) -> set[str]:
    """Of each question that has several answers and no person's, the newest example: one answer settles all."""
    asked: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.answer:
            asked[json.dumps(example.context, sort_keys=True, default=str)].append(example)
    found = set()
    for same in asked.values():
        differ = len({json.dumps(example.answer, sort_keys=True, default=str) for example in same}) > 1
        if differ and not any(example.human_validated for example in same):
            found.add(max(same, key=lambda example: (example.occurred_at, example.id)).id)
    return found
