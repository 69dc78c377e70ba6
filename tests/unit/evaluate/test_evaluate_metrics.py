"""What counts, in which denominator, and what does not."""

from __future__ import annotations

import pytest

from opstune.evaluate.metrics import cause_similarity, confusion, latency, majority, shares

RIGHT = {"correct": True, "function": True, "parameters": True, "valid_json": True}
WRONG = {"correct": False, "function": False, "valid_json": True}


def test_a_metric_counts_only_where_it_applies() -> None:
    found = shares([("remediation", RIGHT), ("remediation", WRONG), ("remediation", RIGHT)])["remediation"]
    assert (found["function"].k, found["function"].n) == (2, 3)
    assert (found["parameters"].k, found["parameters"].n) == (2, 2)


def test_all_pools_what_every_skill_has() -> None:
    found = shares([("remediation", RIGHT), ("triage", {"correct": False, "severity": False, "valid_json": True})])
    assert (found["all"]["correct"].k, found["all"]["correct"].n) == (1, 2)
    assert set(found["all"]) == {"correct", "valid_json"}


def test_nothing_scored_is_no_metric_rather_than_zero() -> None:
    assert shares([]) == {}


def test_latency_is_in_milliseconds_with_a_bound_from_59_requests_on() -> None:
    few, enough = latency([0.1] * 58, 580), latency([0.1] * 59, 590)
    assert few and enough
    assert (few.p95_upper, enough.p95_upper) == (None, pytest.approx(100))
    assert enough.tokens_per_second == pytest.approx(100)
    assert latency([], 0) is None


def test_the_majority_answers_its_best_constant() -> None:
    answers = [
        {"message": "a", "category": "code", "severity": "low"},
        {"message": "b", "category": "code", "severity": "high"},
        {"message": "c", "category": "code", "severity": "high"},
        {"message": "d", "category": "data", "severity": "high"},
    ]
    found = majority("log_error", answers)
    assert (found.label, found.share) == ("code", 0.75)
    assert found.metrics["correct"].k == 2
    assert found.metrics["severity"].k == 3


def test_an_invalid_answer_has_a_column_of_its_own() -> None:
    pairs = [
        ({"severity": "SEV-1"}, {"severity": "SEV-2"}),
        ({"severity": "SEV-1"}, None),
        ({"severity": "SEV-0"}, {"severity": "SEV-0"}),
    ]
    assert confusion("triage", pairs) == {"SEV-0": {"SEV-0": 1}, "SEV-1": {"SEV-2": 1, "(invalid)": 1}}


FULL = {"severity": "SEV-1", "root_cause": "the disk of db-1 is full"}


@pytest.mark.parametrize(
    ("pairs", "alike"),
    [
        ([(FULL, FULL)], 1.0),
        ([(FULL, {**FULL, "root_cause": "the disk of db-2 is full"})], 5 / 6),
        ([(FULL, FULL), (FULL, None)], 0.5),
        ([(FULL, FULL), (FULL, {"severity": "SEV-1", "root_cause": ""})], 0.5),
        ([(FULL, FULL), ({"severity": "SEV-1"}, FULL)], 1.0),
        ([({"severity": "SEV-1"}, FULL)], None),
    ],
)
def test_root_causes_are_as_alike_as_their_words_where_one_is_known(
    pairs: list[tuple[dict[str, str], dict[str, str] | None]], alike: float | None
) -> None:
    assert cause_similarity(pairs) == (None if alike is None else pytest.approx(alike))
