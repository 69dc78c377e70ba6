"""The challenger against the champion: better, not worse, worse or nobody can say, and what it broke. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from opstune.evaluate.evidence import DifferenceSeen
from opstune.evaluate.figures import points_told
from opstune.evaluate.metrics import ALL, Frozen
from opstune.evaluate.predict import Prediction
from opstune.examples import Example
from opstune.skills import get
from opstune.skills.base import target

Word = Literal["better", "not_worse", "worse", "cannot_say"]


class Comparison(Frozen):
    """Right answers of one skill, or of all, on the same cases.

    ``lower`` and ``upper`` are the one-sided 95 % bounds of the difference that decide: of Tango's and the resampled
    ones the more cautious. ``p_value`` is exact McNemar's, two-sided. ``margin`` is how much worse the gate allows.
    """

    skill: str
    n: int
    incidents: int
    gained: int
    lost: int
    difference: float
    lower: float
    upper: float
    resampled: tuple[float, float] | None
    p_value: float
    margin: float | None
    word: Word


class Against(Frozen):
    """All skills together first, then each."""

    word: Word
    sentence: str
    comparisons: list[Comparison]


class Broken(Frozen):
    """A case that the champion had right and the challenger has wrong: what was asked, expected and said."""

    id: str
    skill: str
    incident: str
    prompt: str
    expected: str
    got: str
    champion: str


def against(pairs: Mapping[str, DifferenceSeen], margins: Mapping[str, float]) -> Against:
    """From right answers by skill, ``all`` among them; ``margins`` are the shares that the gate lets a skill lose."""
    ordered = sorted(pairs.items(), key=lambda pair: pair[0] != ALL)
    comparisons = [_comparison(skill, seen, margins.get(skill)) for skill, seen in ordered]
    return Against(word=comparisons[0].word, sentence=_sentence(comparisons[0]), comparisons=comparisons)


def broken(examples: Sequence[Example], ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> list[Broken]:
    """Every newly broken case, in the order of the test set."""
    known = {example.id: example for example in examples}
    before = {prediction.id: prediction for prediction in theirs if prediction.scores.get("correct")}
    return [
        _broken(known[new.id], new, before[new.id])
        for new in ours
        if new.id in before and not new.scores.get("correct", True)
    ]


def as_lines(cases: Sequence[Broken]) -> str:
    """One JSON object a line."""
    return "".join(f"{json.dumps(case.model_dump(), ensure_ascii=False)}\n" for case in cases)


def _comparison(skill: str, seen: DifferenceSeen, margin: float | None) -> Comparison:
    lower, upper = seen.bound("above", seen.n), seen.bound("below", seen.n)
    within = margin is not None and lower > -margin
    word: Word = "not_worse" if within else "cannot_say"
    if seen.shown:
        word = "better" if seen.shown == "more" else "worse"
    return Comparison(
        skill=skill,
        n=seen.n,
        incidents=len(seen.incidents),
        gained=seen.gained,
        lost=seen.lost,
        difference=seen.value,
        lower=lower,
        upper=upper,
        resampled=seen.resampled,
        p_value=seen.p_value,
        margin=margin,
        word=word,
    )


def _sentence(found: Comparison) -> str:
    counted = (
        f"of {found.n:,} answers {found.gained} are newly right and {found.lost} newly wrong "
        f"({points_told(found.difference)} points, exact McNemar p = {found.p_value:.2g})"
    )
    points = f"{(found.margin or 0) * 100:g} {'point' if found.margin == 0.01 else 'points'}"
    if found.word == "better":
        return f"Better than the champion: {counted}."
    if found.word == "not_worse":
        return f"Not worse than the champion by {points} or more, and not shown to be better: {counted}."
    if found.word == "worse":
        tolerated = found.margin is not None and found.lower > -found.margin
        return f"Worse than the champion{f', though by less than {points}' if tolerated else ''}: {counted}."
    return f"Nobody can say whether it is worse than the champion: {counted}."


def _broken(example: Example, new: Prediction, old: Prediction) -> Broken:
    skill = get(example.skill)
    return Broken(
        id=example.id,
        skill=example.skill,
        incident=example.group_id,
        prompt=skill.render(example.context),
        expected=target(example.answer),
        got=new.text,
        champion=old.text,
    )
