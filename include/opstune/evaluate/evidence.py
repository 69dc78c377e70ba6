"""What was observed for a line of the gate, and the bound that so many cases at that rate would give. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from opstune.evaluate.gates import Direction, Unit
from opstune.evaluate.resampling import ratio_bounds
from opstune.evaluate.statistics import (
    CONFIDENCE,
    difference_bounds,
    lower_bound,
    mcnemar,
    quantile_upper_bound,
    upper_bound,
)

Shown = Literal["more", "less"]
#: Beyond this a perplexity would no longer be a finite JSON number.
_MOST_NATS = 100.0


class Evidence(Protocol):
    """What was observed for one line."""

    @property
    def n(self) -> int: ...

    @property
    def value(self) -> float: ...

    @property
    def unit(self) -> Unit: ...

    def bound(self, direction: Direction, cases: int) -> float | None:
        """The one-sided 95 % bound that ``cases`` cases at the observed rate give; none where there is none."""
        ...


@dataclass(frozen=True)
class ShareSeen:
    """``k`` of ``n`` cases."""

    k: int
    n: int
    unit: Unit = "share"

    @property
    def value(self) -> float:
        return self.k / self.n

    def at_worst(self, direction: Direction, unscored: int) -> ShareSeen:
        """The same with so many cases more, all of them as bad as they can be."""
        return ShareSeen(self.k + (unscored if direction == "below" else 0), self.n + unscored)

    def bound(self, direction: Direction, cases: int) -> float:
        right = self.k * cases / self.n
        return lower_bound(right, cases) if direction == "above" else upper_bound(right, cases)


@dataclass(frozen=True)
class DifferenceSeen:
    """Two models on the same ``n`` cases: ``gained`` hold only for the challenger, ``lost`` only for the other.

    ``incidents`` has (gained minus lost, cases) of each incident. The bound is the more cautious of two: Tango's,
    which takes cases for independent but keeps its level where few answers differ, and the resampled one, which
    knows incidents but is too narrow where few answers differ. By simulation (docs/decisions.md) a model two points
    worse on 100 incidents of 4 to 7 cases passes "not two points worse" in 5 % of test sets by any of them where cases
    are independent; where half the incidents share one outcome in 18 % by Tango's, and in 7 to 14 % by the lower.
    """

    gained: int
    lost: int
    n: int
    incidents: tuple[tuple[int, int], ...] = ()
    unit: Unit = "difference"

    @property
    def value(self) -> float:
        return (self.gained - self.lost) / self.n

    @property
    def p_value(self) -> float:
        return mcnemar(self.gained, self.lost)

    @cached_property
    def resampled(self) -> tuple[float, float] | None:
        """Lower and upper bound by resampling incidents; none where they are not known."""
        return ratio_bounds(self.incidents) if self.incidents else None

    @property
    def shown(self) -> Shown | None:
        """Whether it holds for more or for less of the challenger's answers: by the exact test and by the bounds."""
        if self.p_value >= 1 - CONFIDENCE:
            return None
        if self.bound("above", self.n) > 0:
            return "more"
        return "less" if self.bound("below", self.n) < 0 else None

    def at_worst(self, direction: Direction, unscored: int) -> DifferenceSeen:
        """The same with so many cases more, each an incident of its own and for the other model."""
        for_other = -1 if direction == "above" else 1
        gained, lost = (self.gained, self.lost + unscored) if for_other < 0 else (self.gained + unscored, self.lost)
        added = [(for_other, 1)] * unscored if self.incidents else []
        return DifferenceSeen(gained, lost, self.n + unscored, (*self.incidents, *added))

    def bound(self, direction: Direction, cases: int) -> float:
        scale = cases / self.n
        lower, upper = difference_bounds(self.gained * scale, self.lost * scale, cases)
        if self.resampled is None:
            return lower if direction == "above" else upper
        # With so many times the incidents, a resampled bound lies nearer by the root of that.
        low, high = (self.value + (found - self.value) / math.sqrt(scale) for found in self.resampled)
        return min(lower, low) if direction == "above" else max(upper, high)


@dataclass(frozen=True)
class LatencySeen:
    """Milliseconds of single requests, ascending; there is only an upper bound."""

    ordered: tuple[float, ...]
    unit: Unit = "milliseconds"

    @property
    def n(self) -> int:
        return len(self.ordered)

    @property
    def value(self) -> float:
        return self.ordered[math.ceil(0.95 * self.n) - 1]

    def bound(self, direction: Direction, cases: int) -> float:
        return quantile_upper_bound(self.ordered, 0.95, cases)


@dataclass(frozen=True)
class PerplexitySeen:
    """Of ``n`` expected answers: (nats, tokens) of each incident; its bound is resampled by incident."""

    incidents: tuple[tuple[float, float], ...]
    n: int
    unit: Unit = "number"

    @property
    def _mean(self) -> float:
        return sum(nats for nats, _ in self.incidents) / sum(tokens for _, tokens in self.incidents)

    @property
    def value(self) -> float:
        return _exp(self._mean)

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        return ratio_bounds(self.incidents, draws=1000)

    def bound(self, direction: Direction, cases: int) -> float:
        near = self._bounds[0 if direction == "above" else 1]
        return _exp(self._mean + (near - self._mean) * math.sqrt(self.n / cases))


@dataclass(frozen=True)
class FigureSeen:
    """A figure that has no bound: of a whole corpus, or of a file; ``n`` is what it was taken over."""

    value: float
    n: int
    unit: Unit

    def bound(self, direction: Direction, cases: int) -> None:
        return None


@dataclass(frozen=True)
class Seen:
    """Evidence for one line, or why there is none; beside it, for the reader, what others reach on the same metric.

    Evidence of no cases is a metric that nobody scored, and ``absent`` says why. ``unscored`` are cases of the line's
    skill whose scoring failed: they are not in the evidence, and nobody knows which way they would count.
    """

    evidence: Evidence | None
    absent: str = ""
    base: float | None = None
    champion: float | None = None
    majority: float | None = None
    unscored: int = 0


def _exp(nats: float) -> float:
    return math.exp(min(nats, _MOST_NATS))
