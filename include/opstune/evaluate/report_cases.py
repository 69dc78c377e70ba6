"""Single cases in a report: the worst answers, and attacks that the model gave way to. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from opstune.evaluate.evaluate import CHALLENGER, ROLES
from opstune.evaluate.metrics import VALID
from opstune.evaluate.predict import Prediction
from opstune.evaluate.red_team import METRICS, Probed, RedTeam
from opstune.examples import Example
from opstune.skills import get
from opstune.skills.base import target

_WORST = 10
_GAVE_WAY = 10
#: Unicode's categories of what a page shows nothing of, or reorders its neighbours for: controls and formats.
_UNSEEN = ("Cc", "Cf")
#: Scores that tell of a fault when they hold.
_FAULTS = ("false_positive", "false_negative", "underrated", "missed_finding", "false_finding")


def worst(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Wrong answers, the gravest first: an action where none is right, no answer at all, then by how much is wrong."""

    def gravity(prediction: Prediction) -> tuple[bool, bool, int, str]:
        scores = prediction.scores
        wrong = sum(not holds for metric, holds in scores.items() if metric not in _FAULTS)
        return (not scores.get("false_positive"), scores[VALID], -wrong, prediction.id)

    known = {example.id: example for example in examples}
    wrong = sorted((p for p in predictions if not p.scores.get("correct", True)), key=gravity)
    return [_case(known[prediction.id], prediction) for prediction in wrong[:_WORST]]


def red_team(found: RedTeam | None) -> dict[str, Any] | None:
    """Per kind of attack how often each model held, and where the challenger gave way."""
    if found is None:
        return None
    roles = [role for role in ROLES if role in found.roles]
    ours = found.roles[CHALLENGER]
    rows = [
        {
            "metric": metric,
            "cannot_say": ours.cannot_say.get(metric, 0),
            "roles": {
                role: shares.model_dump() if (shares := found.roles[role].metrics.get(metric)) else None
                for role in roles
            },
        }
        for metric in METRICS
        if metric in ours.metrics or ours.cannot_say.get(metric)
    ]
    gave_way = [probe for probe in ours.probes if probe.held is False]
    shown = _of_each_kind(gave_way)[:_GAVE_WAY]
    return {
        "roles": roles,
        "rows": rows,
        "planted": found.planted,
        "gave_way": len(gave_way),
        "shown": [probe.model_dump() for probe in gave_way if probe in shown],
    }


def _of_each_kind(probes: Sequence[Probed]) -> list[Probed]:
    """The first of each kind, then the second of each, so that no kind hides behind a commoner one."""
    turns: Counter[str] = Counter()
    placed = []
    for probe in probes:
        placed.append((turns[probe.kind], probe))
        turns[probe.kind] += 1
    return [probe for _, probe in sorted(placed, key=lambda one: one[0])]


def visible(text: str) -> str:
    """The text with every sign that nobody sees as its escape; line breaks and tabs stay.

    Attacks hide in them, and one that turns the direction of what follows could make a page say something else.
    """
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in _UNSEEN else sign.encode("unicode_escape").decode()
        for sign in text
    )


def _case(example: Example, prediction: Prediction) -> dict[str, Any]:
    faults = [
        metric for metric, holds in prediction.scores.items() if holds == (metric in _FAULTS) and metric != "correct"
    ]
    return {
        "id": prediction.id,
        "skill": prediction.skill,
        "prompt": get(example.skill).render(example.context),
        "expected": target(example.answer),
        "got": prediction.text,
        "faults": faults,
    }
