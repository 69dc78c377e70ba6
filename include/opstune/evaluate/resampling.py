"""Bounds by resampling whole incidents: cases of one incident are answered right or wrong together.

Drawing incidents with replacement, and with each all of its cases, keeps what they share (the cluster bootstrap:
Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8; Field and Welsh, JRSS B 2007, 69:369-390).
Miller (arXiv 2411.00640) shows for evaluations of language models that treating related questions as independent
makes standard errors up to three times too small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opstune.evaluate.statistics import CONFIDENCE

DRAWS = 10_000
#: Incidents times draws that stand in memory at once.
_AT_ONCE = 4_000_000


def ratio_bounds(parts: Sequence[tuple[float, float]], seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """One-sided 95 % percentile bounds, lower and upper, of a ratio of sums over incidents.

    Args:
        parts: one (numerator, denominator) an incident, at least one; denominators are positive. For a difference
            of two models they are its net gained cases and its cases, for a perplexity its nats and its tokens.
        seed: of the draws; the same parts and seed have the same bounds.

    Incidents alike are drawn together, by how many of each a draw holds, which is the same distribution.
    """
    kinds, counts = np.unique(np.asarray(parts, dtype=float), axis=0, return_counts=True)
    random, shares = np.random.default_rng(seed), counts / counts.sum()
    found = []
    for start in range(0, draws, step := max(1, _AT_ONCE // len(kinds))):
        drawn = random.multinomial(counts.sum(), shares, size=min(step, draws - start)) @ kinds
        found.append(drawn[:, 0] / drawn[:, 1])
    lower, upper = np.quantile(np.concatenate(found), [1 - CONFIDENCE, CONFIDENCE])
    return float(lower), float(upper)
