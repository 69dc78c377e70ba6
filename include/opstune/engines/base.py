"""What answers a case: the one protocol that evaluation and serving share, so that both decode alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from opstune.skills import get


@dataclass(frozen=True)
class Case:
    """One question: a skill and the context it is asked about."""

    skill: str
    context: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Answer:
    """What an engine said. ``parsed`` is none when the text is not valid under the skill's answer model.

    ``seconds`` is the latency of this request alone, or none where requests were answered in batches.
    """

    text: str
    parsed: dict[str, Any] | None
    tokens: int
    seconds: float | None


class Engine(Protocol):
    name: str

    def answer(
        self, cases: Sequence[Case], *, constrained: bool, on_progress: Callable[[int, int], None] | None = None
    ) -> list[Answer]:
        """Greedy answers in the order of the cases; ``constrained`` decodes under each case's schema.

        Raises:
            EvaluationError: the model cannot be loaded or stopped answering.
        """
        ...


def parse(skill: str, text: str) -> dict[str, Any] | None:
    """The answer as the skill's answer model reads it, or none when it is not one."""
    try:
        return get(skill).answer_model.model_validate(json.loads(text)).model_dump(exclude_defaults=False)
    except (ValueError, ValidationError):
        return None
