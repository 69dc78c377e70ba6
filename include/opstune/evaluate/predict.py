"""Predictions of one model on the frozen test set, kept as they come, so that no retry asks a case twice."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opstune.artifacts import fingerprint
from opstune.engines.base import Answer, Case, Engine, parse
from opstune.errors import EvaluationError, OpstuneError
from opstune.evaluate.kept import Kept, Said, Step
from opstune.evaluate.memory import Peak
from opstune.evaluate.metrics import VALID, Frozen, score
from opstune.examples import Example
from opstune.settings import EvaluateSettings
from opstune.skills import get
from opstune.skills.base import Scores, target

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0
#: Where more of the cases than this cannot be scored, the skill is broken and not the model.
_MOST_UNSCORED = 0.05


class Answered(Frozen):
    """What a model said about one case, and what holds of it.

    Where a case cannot be scored, ``scores`` holds no more than whether the answer is valid.
    """

    text: str
    parsed: dict[str, Any] | None
    scores: Scores
    tokens: int
    seconds: float | None


class Prediction(Answered):
    """The answer under the case's schema; ``free`` is the one without it, where the case was sampled for that.

    ``nll`` is the negative log-likelihood (nats) of the expected answer, summed over its ``nll_tokens`` tokens;
    none where the engine cannot tell.
    """

    id: str
    skill: str
    free: Answered | None = None
    nll: float | None = None
    nll_tokens: int = 0


class Predicted(Frozen):
    """All predictions of one model, in the order of the test set. ``seconds`` are those of constrained decoding.

    ``memory_mb`` is the most that this process held meanwhile, ``disk_bytes`` the size of the model's files: both
    none where the model runs elsewhere.
    """

    engine: str
    key: str
    seconds: float
    predictions: list[Prediction]
    memory_mb: float | None = None
    disk_bytes: int | None = None


def predict(
    role: str,
    engine: Engine,
    examples: Sequence[Example],
    dataset_sha256: str,
    settings: EvaluateSettings,
    kept: Path,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Predicted:
    """Ask one model about every example that ``kept`` holds no answer to of the same model, dataset and settings.

    Cases are asked in steps that depend on the test set alone, and each step is kept when it is answered: what was
    interrupted ends with the same answers as what was not.

    Raises:
        EvaluationError: the model did not answer every case, or too many answers could not be scored.
    """
    traits = engine.traits
    asked = {"engine": engine.name, "at_once": traits.at_once, **traits.settings}
    key = fingerprint({**asked, "dataset": dataset_sha256, "settings": settings.model_dump()})
    free_ids = _sample({example.id for example in examples}, settings.free_decoding_sample)
    # Alike in length, so that a batch is not padding; the longest first, so that what memory cannot hold fails at once.
    ordered = sorted(examples, key=lambda example: (-len(get(example.skill).render(example.context)), example.id))
    sampled = [example for example in ordered if example.id in free_ids]
    kept_steps = Kept(kept, key)
    told = _Told(role, len(ordered) + len(sampled), on_progress)
    if len(kept_steps):
        log.info("%s: %d answers are already there", role, len(kept_steps))
    with Peak() as peak:
        steps = _answered(engine, ordered, False, kept_steps, told, peak)
        free_steps = _answered(engine, sampled, True, kept_steps, told, peak)
    said = dict(zip([example.id for example in ordered], _all(steps), strict=True))
    free = dict(zip([example.id for example in sampled], _all(free_steps), strict=True))
    predictions = [_prediction(example, said[example.id], free.get(example.id)) for example in examples]
    _refuse_unscored(engine.name, predictions)
    memory = [step.memory_mb for step in (*steps, *free_steps) if step.memory_mb is not None]
    return Predicted(
        engine=engine.name,
        key=key,
        seconds=sum(step.seconds for step in steps),
        predictions=predictions,
        memory_mb=max(memory, default=None),
        disk_bytes=traits.disk_bytes,
    )


def _answered(
    engine: Engine, examples: Sequence[Example], free: bool, kept: Kept, told: _Told, peak: Peak
) -> list[Step]:
    """Every step of the cases: what is kept, and else what the engine answers now."""
    steps = []
    for first in range(0, len(examples), engine.traits.at_once):
        asked = examples[first : first + engine.traits.at_once]
        step = kept.find(free, first, len(asked))
        if step is None:
            started = time.monotonic()
            said = _ask(engine, asked, free, told)
            seconds, local = time.monotonic() - started, engine.traits.disk_bytes is not None
            step = Step(free=free, first=first, seconds=seconds, memory_mb=peak.mb if local else None, said=said)
            kept.add(step)
        told.before += len(asked)
        told(0, 0)
        steps.append(step)
    return steps


def _ask(engine: Engine, examples: Sequence[Example], free: bool, told: _Told) -> list[Said]:
    cases = [Case(example.skill, example.context) for example in examples]
    expected = None if free else [target(example.answer) for example in examples]
    try:
        answers = engine.answer(cases, constrained=not free, expected=expected, on_progress=told)
    except OpstuneError:
        raise
    except Exception as error:  # whatever breaks in a model's own code is a broken evaluation, never a bad model
        raise EvaluationError(f"the engine failed: {error}", engine.name, "See the log above.") from error
    if len(answers) != len(cases):
        what = f"the engine answered {len(answers)} of {len(cases)} cases"
        raise EvaluationError(what, engine.name, "Run the evaluation again; a half-measured model is not judged.")
    return [_said(answer) for answer in answers]


def _said(answer: Answer) -> Said:
    known = answer.likelihood
    return Said(
        text=answer.text,
        tokens=answer.tokens,
        seconds=answer.seconds,
        nll=known.nll if known else None,
        nll_tokens=known.tokens if known else 0,
    )


def _all(steps: Sequence[Step]) -> list[Said]:
    return [said for step in steps for said in step.said]


def _prediction(example: Example, said: Said, free: Said | None) -> Prediction:
    return Prediction(
        id=example.id,
        skill=example.skill,
        free=Answered(**_scored(example, free)) if free else None,
        nll=said.nll,
        nll_tokens=said.nll_tokens,
        **_scored(example, said),
    )


def _scored(example: Example, said: Said) -> Mapping[str, Any]:
    parsed = parse(example.skill, said.text)
    return {
        "text": said.text,
        "parsed": parsed,
        "scores": {**(score(example.skill, example.answer, parsed) or {}), VALID: parsed is not None},
        "tokens": said.tokens,
        "seconds": said.seconds,
    }


def _refuse_unscored(engine: str, predictions: Sequence[Prediction]) -> None:
    unscored = sum(set(prediction.scores) == {VALID} for prediction in predictions)
    if unscored > _MOST_UNSCORED * len(predictions):
        what = f"{unscored} of {len(predictions)} answers could not be scored"
        raise EvaluationError(what, engine, "Correct the skill's score(); the log above says what failed.")


def _sample(ids: set[str], size: int) -> set[str]:
    """Always the same ids of the same test set."""
    return set(random.Random("free decoding").sample(sorted(ids), min(size, len(ids))))


class _Told:
    """Passes progress on, and writes a log line every few seconds. ``before`` is how many cases stand answered."""

    def __init__(self, role: str, total: int, on_progress: Callable[[str, int, int], None] | None) -> None:
        self.before = 0
        self._role, self._total, self._on_progress = role, total, on_progress
        self._done = 0
        self._last = time.monotonic()

    def __call__(self, done: int, _: int) -> None:
        done += self.before
        if done <= self._done:
            return
        self._done = done
        if self._on_progress:
            self._on_progress(self._role, done, self._total)
        if done == self._total or time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            log.info("%s: %d of %d cases answered", self._role, done, self._total)
