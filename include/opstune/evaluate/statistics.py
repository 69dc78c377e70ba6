"""The statistics of the gate: exact bounds of a share, a bound of a paired difference, and how many cases would do.

Every bound is one-sided at 95 %, since a gate asks one question: is the model at least (at most) this good?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy.special import bdtr, betaincinv, ndtri  # scipy.stats wraps these, and takes a second to import

CONFIDENCE = 0.95
_Z = float(ndtri(CONFIDENCE))
_FAR = 10_000_000
_HALVINGS = 60


def lower_bound(right: float, cases: float) -> float:
    """One-sided 95 % Clopper–Pearson lower bound of a share (Clopper and Pearson, Biometrika 1934)."""
    return float(betaincinv(right, cases - right + 1, 1 - CONFIDENCE)) if right > 0 else 0.0


def upper_bound(right: float, cases: float) -> float:
    """One-sided 95 % Clopper–Pearson upper bound of a share."""
    return float(betaincinv(right + 1, cases - right, CONFIDENCE)) if right < cases else 1.0


def difference_bounds(gained: float, lost: float, cases: float) -> tuple[float, float]:
    """One-sided 95 % score bounds, lower and upper, of the difference of two shares on the same cases.

    ``gained`` cases are right only by the first model, ``lost`` only by the second. The bound is the
    difference at which the score test just rejects (Tango, Statistics in Medicine 1998, 17:891-908);
    it keeps its level where differences are few, and two models that never differ have one too.
    """
    share = (gained - lost) / cases
    lower = _crossing(lambda d: _tango(gained, lost, cases, d) < _Z, -1.0, share)
    upper = _crossing(lambda d: _tango(gained, lost, cases, d) < -_Z, share, 1.0)
    return lower, upper


def _crossing(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``holds`` turns true between ``low`` and ``high``, by halving; ``high`` where it never does."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _tango(gained: float, lost: float, cases: float, difference: float) -> float:
    """Tango's score statistic for a true difference of first minus second."""
    if gained == lost == 0 and difference == 0:
        return 0.0
    # Restricted maximum likelihood of the share that only the second model gets right.
    a = 2 * cases
    b = -gained - lost + (2 * cases - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    only_second = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = cases * (2 * only_second + difference * (1 - difference))
    return (gained - lost - cases * difference) / math.sqrt(max(variance, 1e-12))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value that two models are equally good, from the cases on which only one is right.

    The binomial test of ``gained`` against ``lost`` at one half (McNemar, Psychometrika 1947, 12:153-157).
    """
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def quantile_upper_bound(ordered: Sequence[float], quantile: float, cases: int | None = None) -> float:
    """Distribution-free one-sided 95 % upper bound of a quantile, an order statistic; infinite where too few.

    It is below a limit exactly when the Clopper–Pearson upper bound of the share at or above the limit
    is below ``1 - quantile``. ``ordered`` ascends; ``cases`` asks for the bound that this many values
    spread like these would give.
    """
    cases = len(ordered) if cases is None else cases
    rank = max(1, math.ceil(quantile * cases))
    while rank <= cases and bdtr(rank - 1, cases, quantile) < CONFIDENCE:
        rank += 1
    return float(ordered[math.ceil(rank / cases * len(ordered)) - 1]) if rank <= cases else math.inf


def cases_needed(passes: Callable[[int], bool], cases: int) -> int | None:
    """The fewest cases from ``cases`` on at which ``passes`` holds; none when not even ten million do.

    ``passes`` must hold for all larger numbers once it holds, rounding aside.
    """
    high = max(cases, 1)
    while not passes(high):
        high *= 2
        if high > _FAR:
            return None
    low = max(cases, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle + 1, high)
    return high
