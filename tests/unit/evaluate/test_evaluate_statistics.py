"""Bounds against published or exactly computed figures, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from opstune.evaluate.statistics import (
    cases_needed,
    difference_bounds,
    lower_bound,
    mcnemar,
    quantile_upper_bound,
    upper_bound,
)


@pytest.mark.parametrize(("threshold", "fewest"), [(0.90, 916), (0.95, 962)])
def test_of_a_thousand_cases_so_many_prove_more_than(threshold: float, fewest: int) -> None:
    assert lower_bound(fewest, 1000) > threshold > lower_bound(fewest - 1, 1000)


@pytest.mark.parametrize(("cases", "allowed"), [(59, 0), (93, 1), (124, 2), (1000, 38)])
def test_so_many_errors_still_prove_less_than_five_percent(cases: int, allowed: int) -> None:
    assert upper_bound(allowed, cases) < 0.05 < upper_bound(allowed + 1, cases)


def test_no_and_all_cases_have_bounds_too() -> None:
    assert (lower_bound(0, 30), upper_bound(30, 30)) == (0.0, 1.0)
    assert lower_bound(30, 30) == pytest.approx(0.05 ** (1 / 30))


@pytest.mark.parametrize(
    ("true_rate", "threshold", "cases", "least", "most"),
    [
        (0.88, 0.90, 1000, 0.0, 0.001),
        (0.97, 0.90, 1000, 0.999, 1.0),
        (0.97, 0.95, 1000, 0.937, 0.939),
        (0.97, 0.95, 1150, 0.95, 1.0),
    ],
)
def test_a_model_of_a_true_rate_passes_a_line_so_often(
    true_rate: float, threshold: float, cases: int, least: float, most: float
) -> None:
    """Exactly. Of 1,000 cases 962 right prove more than 95 %, and 961 would prove it at 94 % confidence only."""
    passing = [right for right in range(cases + 1) if lower_bound(right, cases) > threshold]
    assert least <= binom.pmf(passing, cases, true_rate).sum() <= most + 1e-9


def test_the_paired_bound_of_equal_models_is_symmetric_and_shrinks() -> None:
    small, large = difference_bounds(10, 10, 300), difference_bounds(20, 20, 600)
    assert small[0] == pytest.approx(-small[1])
    assert small[0] < large[0] < 0 < large[1] < small[1]


@pytest.mark.parametrize(
    ("gained", "lost", "cases"), [(0, 0, 50), (3, 0, 50), (0, 3, 50), (50, 0, 50), (0, 50, 50), (1, 0, 1)]
)
def test_the_paired_bound_holds_the_observed_difference(gained: int, lost: int, cases: int) -> None:
    lower, upper = difference_bounds(gained, lost, cases)
    assert -1 <= lower <= (gained - lost) / cases <= upper <= 1
    assert (lower, upper) == pytest.approx(tuple(-x for x in difference_bounds(lost, gained, cases)[::-1]))


@pytest.mark.parametrize(("cases", "gained", "lost"), [(600, 0.01, 0.03), (600, 0.05, 0.07), (100, 0.05, 0.07)])
def test_a_model_two_points_worse_seldom_proves_to_be_less_than_two_points_worse(
    cases: int, gained: float, lost: float
) -> None:
    draws = np.random.default_rng(0).multinomial(cases, [gained, lost, 1 - gained - lost], size=2000)
    kinds, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    passing = [difference_bounds(int(g), int(x), cases)[0] > -0.02 for g, x in kinds]
    assert np.average(passing, weights=counts) < 0.065


@pytest.mark.parametrize("cases", [59, 100, 333])
def test_the_latency_bound_is_the_same_test_as_the_share_of_slow_answers(cases: int) -> None:
    seconds = sorted(np.random.default_rng(cases).exponential(size=cases))
    bound = quantile_upper_bound(seconds, 0.95)
    for limit in np.asarray(seconds) + 1e-9:
        slow = int(np.sum(np.asarray(seconds) >= limit))
        assert (bound < limit) == (upper_bound(slow, cases) < 0.05)


def test_too_few_requests_bound_no_percentile() -> None:
    assert math.isinf(quantile_upper_bound(range(58), 0.95))
    assert quantile_upper_bound(range(59), 0.95) == 58


def test_the_fewest_cases_that_would_do_are_found() -> None:
    assert cases_needed(lambda n: n >= 437, 30) == 437
    assert cases_needed(lambda n: n >= 437, 500) == 500
    assert cases_needed(lambda n: False, 30) is None


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 6), (5, 1), (24, 6), (8, 21), (300, 340)])
def test_mcnemar_is_the_exact_binomial_test_of_the_cases_that_differ(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)
