"""Bounds by resampling incidents: what they hold, and that what an incident's cases share widens them."""

from __future__ import annotations

import numpy as np
import pytest

from opstune.evaluate.evidence import DifferenceSeen, PerplexitySeen
from opstune.evaluate.resampling import ratio_bounds
from opstune.evaluate.statistics import difference_bounds


def test_incidents_of_one_case_are_the_plain_bootstrap() -> None:
    """Against the normal bound of a mean, which 2,000 cases are close to."""
    parts = [(1, 1)] * 120 + [(-1, 1)] * 80 + [(0, 1)] * 1800
    spread = float(np.std([net for net, _ in parts])) / np.sqrt(2000)
    assert ratio_bounds(parts) == pytest.approx((0.02 - 1.645 * spread, 0.02 + 1.645 * spread), abs=4e-4)


def test_cases_that_stand_and_fall_together_widen_the_bound_as_fewer_cases_would() -> None:
    alone = ratio_bounds([(1, 1)] * 60 + [(-1, 1)] * 60 + [(0, 1)] * 1080)
    together = ratio_bounds([(6, 6)] * 10 + [(-6, 6)] * 10 + [(0, 6)] * 180)
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(np.sqrt(6), rel=0.1)


def test_larger_incidents_weigh_more() -> None:
    lower, upper = ratio_bounds([(10, 10), (0, 1)] * 50)
    assert lower < 10 / 11 < upper
    assert lower > 0.85


def test_the_same_incidents_have_the_same_bounds_in_any_order() -> None:
    parts = [(n % 7 - 3, 5 + n % 4) for n in range(90)]
    assert ratio_bounds(parts) == ratio_bounds(parts[::-1]) == ratio_bounds(parts, seed=0)
    assert ratio_bounds(parts) != ratio_bounds(parts, seed=1)


def test_more_draws_than_stand_in_memory_at_once_are_drawn_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [(n % 7 - 3, 5 + n % 4) for n in range(200)]
    whole = ratio_bounds(parts)
    monkeypatch.setattr("opstune.evaluate.resampling._AT_ONCE", 1000)
    assert ratio_bounds(parts) == pytest.approx(whole)


def test_the_more_cautious_bound_decides() -> None:
    few = DifferenceSeen(1, 1, 70, ((1, 1), (-1, 1), *[(0, 1)] * 68))
    shared = DifferenceSeen(12, 12, 600, tuple([(6, 6)] * 2 + [(-6, 6)] * 2 + [(0, 6)] * 96))
    assert few.resampled and shared.resampled
    assert few.bound("above", 70) == difference_bounds(1, 1, 70)[0] < few.resampled[0]
    assert shared.bound("above", 600) == shared.resampled[0] < difference_bounds(12, 12, 600)[0]
    assert shared.bound("below", 600) == shared.resampled[1]


def test_four_times_the_incidents_halve_a_resampled_distance() -> None:
    seen = DifferenceSeen(12, 12, 600, tuple([(6, 6)] * 2 + [(-6, 6)] * 2 + [(0, 6)] * 96))
    assert seen.bound("above", 2400) == pytest.approx(seen.bound("above", 600) / 2)


def test_one_incident_s_model_at_the_margin_seldom_passes_where_independence_is_taken_for_granted() -> None:
    """Two points worse, half the incidents sharing one outcome: 18 % pass by Tango's bound alone, 12 % by both."""
    random, passed = np.random.default_rng(0), [0, 0]
    for _ in range(200):
        outcomes = random.choice([1, -1, 0], p=[0.01, 0.03, 0.96], size=(100, 5))
        together = random.random(100) < 0.5
        outcomes[together] = outcomes[together, :1]
        gained, lost = int((outcomes > 0).sum()), int((outcomes < 0).sum())
        seen = DifferenceSeen(gained, lost, 500, tuple((int(net), 5) for net in outcomes.sum(axis=1)))
        passed[0] += difference_bounds(gained, lost, 500)[0] > -0.02
        passed[1] += seen.bound("above", 500) > -0.02
    assert passed[1] < 0.75 * passed[0]


def test_a_perplexity_s_bounds_hold_it_and_narrow() -> None:
    random = np.random.default_rng(1)
    tokens, nats = random.integers(5, 40, 80), random.gamma(2, 0.5, 80)
    parts = tuple(zip((tokens * nats).tolist(), tokens.tolist(), strict=True))
    seen = PerplexitySeen(parts, 80)
    assert seen.bound("above", 80) < seen.value < seen.bound("below", 80)
    assert seen.bound("below", 8000) < seen.bound("below", 80)
    assert seen.value == pytest.approx(np.exp(sum(n for n, _ in parts) / sum(t for _, t in parts)))


def test_nothing_sure_of_itself_has_an_endless_perplexity() -> None:
    assert np.isfinite(PerplexitySeen(((1e9, 1.0),), 1).value)
