"""What answers a case: the one protocol that evaluation and serving share, so that both decode alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from opstune.skills import get
from opstune.skills.base import target


@dataclass(frozen=True)
class Case:
    """One question: a skill and the context it is asked about."""

    skill: str
    context: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Likelihood:
    """How likely a model holds a given answer: the negative logarithm (nats) summed over its tokens, its end included.

    It is the model's own, without a schema; ``exp(nll / tokens)`` is the answer's perplexity.
    """

    nll: float
    tokens: int


@dataclass(frozen=True)
class Answer:
    """What an engine said. ``parsed`` is none when the text is not valid under the skill's answer model.

    ``seconds`` is the latency of this request alone, or none where requests were answered in batches.
    ``likelihood`` is of the answer that was expected, where one was given and the engine can tell.
    """

    text: str
    parsed: dict[str, Any] | None
    tokens: int
    seconds: float | None
    likelihood: Likelihood | None = None


@dataclass(frozen=True)
class Traits:
    """What else of an engine than its weights matters to an evaluation.

    ``at_once`` is how many cases it answers together; ``settings`` are what its answers depend on beside the weights;
    ``disk_bytes`` is the size of the model's files, or none where they stand elsewhere.
    """

    at_once: int
    settings: Mapping[str, str | int]
    disk_bytes: int | None


class Engine(Protocol):
    @property
    def name(self) -> str:
        """The model, and by a hash of its files which one."""
        ...

    @property
    def traits(self) -> Traits: ...

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the cases; ``constrained`` decodes under each case's schema.

        With ``expected``, the right answer of every case, each answer also says how likely the model holds that one.
        What the model answers does not depend on it.

        Raises:
            EvaluationError: the model cannot be loaded or stopped answering.
        """
        ...


def parse(skill: str, text: str) -> dict[str, Any] | None:
    """The answer as the skill's answer model reads it, or none when it is not one."""
    try:
        found = get(skill).answer_model.model_validate(json.loads(text)).model_dump(exclude_defaults=False)
        target(found).encode()  # half of a surrogate pair is a string to Python, but could be written to no file
        return found
    except (ValueError, RecursionError):  # the second where brackets open without end
        return None
