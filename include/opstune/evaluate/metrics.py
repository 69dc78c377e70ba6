"""What predictions are worth: shares with their bounds, latencies, the majority's answer, confusion. Pure."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from opstune.evaluate.statistics import lower_bound, quantile_upper_bound, upper_bound
from opstune.skills import get
from opstune.skills.base import Scores, similarity, target

log = logging.getLogger(__name__)

#: The pseudo skill of figures over all cases.
ALL = "all"
#: Whether the answer was one that the skill's answer model accepts.
VALID = "valid_json"
INVALID = "(invalid)"
_ANSWERS_TRIED = 20


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Share(Frozen):
    """``k`` of ``n`` cases; the bounds are one-sided, each at 95 %."""

    k: int
    n: int
    value: float
    lower: float
    upper: float


class Latency(Frozen):
    """Seconds of single requests, in milliseconds. ``p95_upper`` is a one-sided 95 % bound, none below 59 requests."""

    n: int
    p50: float
    p95: float
    p99: float
    p95_upper: float | None
    tokens_per_second: float


class Majority(Frozen):
    """Always giving the commonest class's commonest answer: what a model must beat to have learnt anything."""

    label: str
    share: float
    metrics: dict[str, Share]


def score(skill: str, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores | None:
    """What holds of a prediction, or none where the skill's scoring fails: that says nothing about the answer."""
    try:
        return get(skill).score(expected, predicted)
    except Exception:
        log.exception("an answer of skill %s cannot be scored", skill)
        return None


def share(right: int, cases: int) -> Share:
    """A share with its bounds; ``cases`` is at least one."""
    return Share(
        k=right, n=cases, value=right / cases, lower=lower_bound(right, cases), upper=upper_bound(right, cases)
    )


def shares(scored: Iterable[tuple[str, Scores]]) -> dict[str, dict[str, Share]]:
    """Skill → metric → share, from (skill, scores of a case); ``all`` holds what every skill has.

    A metric that does not apply to a case is absent from its scores and does not count.
    """
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for skill, scores in scored:
        for metric, holds in scores.items():
            for name in (skill, ALL) if metric in ("correct", VALID) else (skill,):
                counts[name][metric][0] += holds
                counts[name][metric][1] += 1
    return {skill: {metric: share(k, n) for metric, (k, n) in found.items()} for skill, found in counts.items()}


def latency(seconds: Sequence[float], tokens: int) -> Latency | None:
    """Percentiles of requests answered alone, and how many tokens a second they gave; none of no requests."""
    if not seconds:
        return None
    p50, p95, p99 = (float(value) for value in np.percentile(seconds, [50, 95, 99]) * 1000)
    upper = quantile_upper_bound(sorted(seconds), 0.95) * 1000
    return Latency(
        n=len(seconds),
        p50=p50,
        p95=p95,
        p99=p99,
        p95_upper=upper if math.isfinite(upper) else None,
        tokens_per_second=tokens / sum(seconds),
    )


def majority(skill: str, answers: Sequence[Mapping[str, Any]]) -> Majority:
    """The best that one constant answer of the commonest class can do on these expected answers.

    It is chosen on the test set itself, so no constant learnt elsewhere can look better.
    """
    taught = get(skill)
    label, count = Counter(taught.label(answer) for answer in answers).most_common(1)[0]
    distinct = {target(answer): answer for answer in answers if taught.label(answer) == label}
    tried = list(distinct.values())[:_ANSWERS_TRIED]
    best = max(tried, key=lambda constant: sum(s["correct"] for s in _scores(skill, answers, constant)))
    metrics = shares((skill, scores) for scores in _scores(skill, answers, best)).get(skill, {})
    return Majority(label=label, share=count / len(answers), metrics=metrics)


def _scores(skill: str, answers: Iterable[Mapping[str, Any]], constant: Mapping[str, Any]) -> list[Scores]:
    return [found for answer in answers if (found := score(skill, answer, constant)) is not None]


def confusion(
    skill: str, pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]
) -> dict[str, dict[str, int]]:
    """Expected label → predicted label → cases, from (expected, predicted); an invalid answer is a label too."""
    label = get(skill).label
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for expected, predicted in pairs:
        table[label(expected)][label(predicted) if predicted is not None else INVALID] += 1
    return {expected: dict(row) for expected, row in sorted(table.items())}


def cause_similarity(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> float | None:
    """Mean ``similarity`` of root causes, 0 to 1, from (expected, predicted), over the cases that have a known one.

    An invalid answer is like nothing. None where no cause is known.
    """
    found = [
        similarity(str(expected["root_cause"]), str((predicted or {}).get("root_cause") or ""))
        for expected, predicted in pairs
        if expected.get("root_cause")
    ]
    return sum(found) / len(found) if found else None
