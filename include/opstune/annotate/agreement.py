"""How far people agree, computed from their labels: pure functions of (item, annotator, label)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, NamedTuple

Scale = Literal["nominal", "ordinal"]


class Label(NamedTuple):
    """What one person said about one item; stars are numbers."""

    item: str
    annotator: str
    value: str | int


@dataclass(frozen=True)
class Difference:
    """An item on which people differ: annotator → label."""

    item: str
    labels: Mapping[str, str | int]

    def __str__(self) -> str:
        return f"{self.item}: {', '.join(f'{who} says {label}' for who, label in self.labels.items())}"


@dataclass(frozen=True)
class Agreement:
    """``items`` are those that two people or more labelled, of ``labelled`` in all.

    ``percent`` is the share of agreeing pairs of labels, 0 to 1, the mean over items; ``value`` the coefficient of
    ``measure``, corrected for chance. Each is none where it cannot be said: ``reason`` says why.
    """

    items: int
    labelled: int
    annotators: tuple[str, ...]
    percent: float | None = None
    measure: str = ""
    value: float | None = None
    reason: str = ""
    pairs: Mapping[str, float] = field(default_factory=dict)
    differ: tuple[Difference, ...] = ()

    def held(self, by: Literal["percent", "kappa"]) -> float | None:
        """The figure that a line is held against. Where chance cannot be corrected for, it is the percentage."""
        return self.value if by == "kappa" and self.value is not None else self.percent


def agreement(labels: Iterable[Label], scale: Scale = "nominal") -> Agreement:
    """Agreement of all annotators, with every pair's percentage and every item on which labels differ.

    Of several labels of one annotator on one item the last counts. The coefficient is Cohen's kappa where two
    people labelled every item, Fleiss' where a fixed number above two did, Krippendorff's alpha where some items
    miss or the scale is ordinal, which the first two ignore.
    """
    table: dict[str, dict[str, str | int]] = defaultdict(dict)
    for label in labels:
        table[label.item][label.annotator] = label.value
    people = tuple(sorted({who for said in table.values() for who in said}))
    shared = {item: said for item, said in table.items() if len(said) > 1}
    if not shared:
        reason = "no item was labelled by two people" if table else "there are no labels"
        return Agreement(0, len(table), people, reason=reason)
    measure, value, reason = _coefficient(table, people, scale)
    differ = tuple(Difference(item, said) for item, said in shared.items() if len(set(said.values())) > 1)
    percent = sum(map(_agreeing, shared.values())) / len(shared)
    return Agreement(len(shared), len(table), people, percent, measure, value, reason, _pairs(shared), differ)


def _agreeing(said: Mapping[str, str | int]) -> float:
    """The share of pairs of one item's labels that are equal."""
    pairs = list(combinations(said.values(), 2))
    return sum(one == other for one, other in pairs) / len(pairs)


def _pairs(shared: Mapping[str, Mapping[str, str | int]]) -> dict[str, float]:
    met: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for said in shared.values():
        for one, other in combinations(sorted(said), 2):
            met[f"{one} & {other}"] += 1
            agreed[f"{one} & {other}"] += said[one] == said[other]
    return {pair: agreed[pair] / met[pair] for pair in sorted(met)}


def _coefficient(
    table: Mapping[str, Mapping[str, str | int]], people: Sequence[str], scale: Scale
) -> tuple[str, float | None, str]:
    counts = {len(said) for said in table.values()}
    complete, fixed = counts == {len(people)}, counts.pop() if len(counts) == 1 else 0
    if scale == "nominal" and complete and len(people) == 2:
        measure = "Cohen's kappa"
    elif scale == "nominal" and fixed > 1:
        measure = "Fleiss' kappa"
    else:
        measure = "Krippendorff's alpha"
    values = {value for said in table.values() if len(said) > 1 for value in said.values()}
    if len(values) == 1:
        return measure, None, f"all labels are {values.pop()!r}, so nothing tells agreement from chance"
    if measure == "Cohen's kappa":
        return measure, _cohen(table, people), ""
    return measure, _fleiss(table) if measure == "Fleiss' kappa" else _krippendorff(table, people, scale), ""


def _cohen(table: Mapping[str, Mapping[str, str | int]], people: Sequence[str]) -> float:
    """Cohen 1960, as scikit-learn computes it."""
    from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]

    one, other = ([str(said[who]) for said in table.values()] for who in people)
    return float(cohen_kappa_score(one, other))


def _fleiss(table: Mapping[str, Mapping[str, str | int]]) -> float:
    """Fleiss 1971, as statsmodels computes it."""
    from statsmodels.stats.inter_rater import fleiss_kappa  # type: ignore[import-untyped]

    values = sorted({str(value) for said in table.values() for value in said.values()})
    counts = [[[str(value) for value in said.values()].count(kind) for kind in values] for said in table.values()]
    return float(fleiss_kappa(counts, method="fleiss"))


def _krippendorff(table: Mapping[str, Mapping[str, str | int]], people: Sequence[str], scale: Scale) -> float:
    """Krippendorff 2011, as the package of his name computes it; items of one label do not count."""
    import krippendorff
    import numpy as np

    if scale == "ordinal":
        rows = [[float(said.get(who, np.nan)) for said in table.values()] for who in people]
    else:
        values = sorted({str(value) for said in table.values() for value in said.values()})
        rows = [
            [float(values.index(str(said[who]))) if who in said else np.nan for said in table.values()]
            for who in people
        ]
    return float(krippendorff.alpha(reliability_data=np.array(rows), level_of_measurement=scale))
