"""Rows about the gate: how often the lines of gates.yaml let a model of a known quality pass."""

from __future__ import annotations

from collections import Counter

import numpy as np

from opstune.bench.rows import Measured, row
from opstune.settings import config_dir

_DRAWS = 2000


def passing(true_rate: float, metric: str, n: int) -> Measured:
    """Share of seeded draws in which a model of this true rate passes remediation's line of ``gates.yaml``.

    The baseline is the exact share, from the binomial distribution.
    """
    from scipy.stats import binom

    from opstune.evaluate.evidence import Seen, ShareSeen
    from opstune.evaluate.gates import read_gates
    from opstune.evaluate.verdict import judge

    gates = read_gates(config_dir() / "gates.yaml")
    (line,) = (g for g in gates.lines if (g.skill, g.metric, g.reference) == ("remediation", metric, "absolute"))
    drawn = Counter(np.random.default_rng(7).binomial(n, true_rate, size=_DRAWS).tolist())
    passes = [k for k in range(n + 1) if judge(line, Seen(ShareSeen(k, n)), gates.reach).status == "passed"]
    share = sum(drawn[k] for k in passes) / _DRAWS
    return Measured(share, "share", float(binom.pmf(passes, n, true_rate).sum()), _DRAWS)


@row("gate_false_pass_88_at_90")
def gate_false_pass_88_at_90() -> Measured:
    """Share of 2,000 draws in which a model that is right in 88 % of cases passes "function above 90 %" on 1,000."""
    return passing(0.88, "function", 1000)


@row("gate_true_pass_97_at_90")
def gate_true_pass_97_at_90() -> Measured:
    """Share of 2,000 draws in which a model that is right in 97 % of cases passes "function above 90 %" on 1,000."""
    return passing(0.97, "function", 1000)


@row("gate_true_pass_97_at_95")
def gate_true_pass_97_at_95() -> Measured:
    """Share of 2,000 draws in which a model that is right in 97 % of cases passes "parameters above 95 %" on 1,000.

    The exact share, the baseline, is 93.8 % and not the 95 % that was hoped for, however the draws fall: 962 right
    prove more than 95 %, and a true 97 % gives as many in 93.8 % of test sets. No exact bound does better;
    ``gate_true_pass_97_at_95_of_1150`` has cases enough.
    """
    return passing(0.97, "parameters", 1000)


@row("gate_true_pass_97_at_95_of_1150")
def gate_true_pass_97_at_95_of_1150() -> Measured:
    """The same on 1,150 cases: more than 95 %."""
    return passing(0.97, "parameters", 1150)
