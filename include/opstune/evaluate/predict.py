"""Predictions of one model on the frozen test set, kept so that a retry asks no model twice."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from opstune.artifacts import atomic_path, fingerprint
from opstune.engines.base import Answer, Case, Engine
from opstune.errors import EvaluationError, OpstuneError
from opstune.evaluate.metrics import VALID, Frozen
from opstune.examples import Example
from opstune.settings import EvaluateSettings
from opstune.skills import get
from opstune.skills.base import Scores

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


class Answered(Frozen):
    """What a model said about one case, and what holds of it."""

    text: str
    parsed: dict[str, Any] | None
    scores: Scores
    tokens: int
    seconds: float | None


class Prediction(Answered):
    """The answer under the case's schema; ``free`` is the one without it, where the case was sampled for that."""

    id: str
    skill: str
    free: Answered | None = None


class Predicted(Frozen):
    """All predictions of one model, in the order of the test set. ``seconds`` are those of constrained decoding."""

    engine: str
    key: str
    seconds: float
    predictions: list[Prediction]


def predict(
    role: str,
    engine: Engine,
    examples: Sequence[Example],
    dataset_sha256: str,
    settings: EvaluateSettings,
    kept: Path,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Predicted:
    """Ask one model about every example, or return what ``kept`` holds of the same model, dataset and settings.

    Raises:
        EvaluationError: the model did not answer every case.
    """
    key = fingerprint({"engine": engine.name, "dataset": dataset_sha256, "settings": settings.model_dump()})
    if (found := _read_kept(kept)) and found.key == key:
        log.info("%s: its %d predictions are already there", role, len(found.predictions))
        return found
    free_ids = _sample({example.id for example in examples}, settings.free_decoding_sample)
    sampled = [example for example in examples if example.id in free_ids]
    total = len(examples) + len(sampled)
    told = _Told(role, total, on_progress)
    started = time.monotonic()
    constrained = _ask(engine, examples, True, told)
    seconds = time.monotonic() - started
    told.before = len(examples)
    free = dict(zip([example.id for example in sampled], _ask(engine, sampled, False, told), strict=True))
    predictions = [
        Prediction(id=example.id, skill=example.skill, free=free.get(example.id), **dict(answered))
        for example, answered in zip(examples, constrained, strict=True)
    ]
    made = Predicted(engine=engine.name, key=key, seconds=seconds, predictions=predictions)
    with atomic_path(kept) as partial:
        partial.write_text(made.model_dump_json())
    return made


def _ask(engine: Engine, examples: Sequence[Example], constrained: bool, told: _Told) -> list[Answered]:
    if not examples:
        return []
    cases = [Case(example.skill, example.context) for example in examples]
    try:
        answers = engine.answer(cases, constrained=constrained, on_progress=told)
    except OpstuneError:
        raise
    except Exception as error:  # whatever breaks in a model's own code is a broken evaluation, never a bad model
        raise EvaluationError(f"the engine failed: {error}", engine.name, "See the log above.") from error
    if len(answers) != len(cases):
        what = f"the engine answered {len(answers)} of {len(cases)} cases"
        raise EvaluationError(what, engine.name, "Run the evaluation again; a half-measured model is not judged.")
    return [_scored(example, answer) for example, answer in zip(examples, answers, strict=True)]


def _scored(example: Example, answer: Answer) -> Answered:
    scores = get(example.skill).score(example.answer, answer.parsed)
    return Answered(
        text=answer.text,
        parsed=answer.parsed,
        scores={**scores, VALID: answer.parsed is not None},
        tokens=answer.tokens,
        seconds=answer.seconds,
    )


def _sample(ids: set[str], size: int) -> set[str]:
    """Always the same ids of the same test set."""
    return set(random.Random("free decoding").sample(sorted(ids), min(size, len(ids))))


def _read_kept(path: Path) -> Predicted | None:
    """What an earlier try left; a file of another make is as good as none."""
    try:
        return Predicted.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None


class _Told:
    """Passes progress on, and writes a log line every few seconds."""

    def __init__(self, role: str, total: int, on_progress: Callable[[str, int, int], None] | None) -> None:
        self.before = 0
        self._role, self._total, self._on_progress = role, total, on_progress
        self._last = time.monotonic()

    def __call__(self, done: int, _: int) -> None:
        done += self.before
        if self._on_progress:
            self._on_progress(self._role, done, self._total)
        if done == self._total or time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            log.info("%s: %d of %d cases answered", self._role, done, self._total)
