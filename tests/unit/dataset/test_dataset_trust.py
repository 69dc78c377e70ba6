"""Feedback as a threat: what it must pass before it teaches, and how much of it may."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opstune import dataset
from opstune.dataset import trust
from opstune.examples import Example
from opstune.settings import DatasetSettings, FeedbackSettings
from opstune.tables import read_examples

LIMITS = FeedbackSettings()


@pytest.fixture
def rate(make: Any) -> Any:
    """Feedback number ``n``: rated 5 by ada, reviewed by grace, a hundred days before the present."""

    def build(number: int = 0, **changes: Any) -> Example:
        given = {"source": "feedback", "rating": 5, "annotator": "ada", "human_validated": True}
        reviewed = {"reviewed_by": "grace"}
        return make(number, "log_error", **{**given, "metadata": reviewed, "group_id": f"F-{number}", **changes})

    return build


@pytest.fixture
def present(make: Any) -> Any:
    return make(100 * 24).occurred_at


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        ({}, {}, None),
        ({"rating": 3}, {}, None),
        ({"rating": 2}, {}, trust.UNRATED),
        ({"rating": None}, {}, trust.UNRATED),
        ({"rating": 4}, {"minimum_rating": 5}, trust.UNRATED),
        ({"human_validated": False}, {}, trust.UNREVIEWED),
        ({"metadata": {}}, {}, trust.UNREVIEWED),
        ({"metadata": {"reviewed_by": ""}}, {}, trust.UNREVIEWED),
        ({"metadata": {"reviewed_by": "ada"}}, {}, trust.UNREVIEWED),
        ({"metadata": {"reviewed_by": " Ada "}}, {}, trust.UNREVIEWED),
        ({"metadata": {"reviewed_by": ["ada", "grace"]}}, {}, None),
        ({"human_validated": False, "metadata": {}}, {"reviewed": False}, None),
        ({"annotator": None}, {}, trust.NAMELESS),
        ({"annotator": " "}, {"reviewed": False}, trust.NAMELESS),
        ({"source": "ratings", "rating": None, "metadata": {}}, {}, None),
        ({"source": "ratings", "rating": None}, {"sources": ["feedback", "ratings"]}, trust.UNRATED),
    ],
)
def test_only_rated_and_reviewed_feedback_of_somebody_teaches(
    rate: Any, present: Any, changes: dict[str, Any], limits: dict[str, Any], reason: str | None
) -> None:
    example = rate(**changes)
    kept, dropped = trust.admitted([example], LIMITS.model_copy(update=limits), present, set())
    assert [drop.reason for drop in dropped] == ([reason] if reason else [])
    assert kept == ([] if reason else [example])


@pytest.mark.parametrize(
    ("age", "quarantine", "waits"),
    [(6.9, 7, True), (7.0, 7, False), (0.0, 7, True), (-400.0, 7, True), (0.0, 0, False), (0.4, 0.5, True)],
)
def test_young_feedback_waits_in_quarantine(
    rate: Any, present: Any, age: float, quarantine: float, waits: bool
) -> None:
    example = rate(occurred_at=present - timedelta(days=age))
    limits = LIMITS.model_copy(update={"quarantine_days": quarantine})
    _, dropped = trust.admitted([example], limits, present, set())
    assert [drop.reason for drop in dropped] == ([trust.QUARANTINED] if waits else [])


def test_feedback_from_the_future_does_not_end_its_own_quarantine(make: Any, rate: Any) -> None:
    history = [make(number) for number in range(3)]
    liar = rate(9, occurred_at=history[-1].occurred_at + timedelta(days=365))
    assert trust.newest([*history, liar], LIMITS) == history[-1].occurred_at
    assert trust.newest([liar], LIMITS) == liar.occurred_at
    assert trust.newest([], LIMITS) is None


def test_of_one_person_the_oldest_count_however_the_name_is_spelt(rate: Any, present: Any) -> None:
    rows = [rate(number, annotator=("ada", " Ada", "ADA")[number % 3]) for number in range(9)]
    other = rate(20, annotator="bob")
    kept, dropped = trust.admitted([*rows[::-1], other], LIMITS.model_copy(update={"per_user": 4}), present, set())
    assert {example.source_id for example in kept} == {"0", "1", "2", "3", "20"}
    assert {drop.reason for drop in dropped} == {trust.OVER_USER}
    assert len(dropped) == 5


def test_what_is_in_test_counts_first_of_a_persons_feedback(rate: Any, present: Any) -> None:
    """Older feedback that was reviewed late must not push an example out of test."""
    rows = [rate(number) for number in range(4)]
    kept, _ = trust.admitted(rows, LIMITS.model_copy(update={"per_user": 2}), present, {rows[3].id})
    assert [example.source_id for example in kept] == ["0", "3"]


@pytest.mark.parametrize(
    ("others", "batches", "limit", "kept"),
    [
        (90, {"a": 10}, 0.1, {"a": 10}),
        (89, {"a": 11}, 0.1, {"a": 9}),
        (90, {"a": 11, "b": 11}, 0.1, {"a": 11, "b": 11}),
        (90, {"a": 30, "b": 5}, 0.1, {"a": 10, "b": 5}),
        (10, {"a": 100}, 0.5, {"a": 10}),
        (0, {"a": 50}, 0.1, {}),
        (0, {"a": 50}, 1.0, {"a": 50}),
        (0, dict.fromkeys("abcdefghij", 10), 0.1, dict.fromkeys("abcdefghij", 10)),
    ],
)
@pytest.mark.parametrize("kind", ["annotator", "batch"])
def test_no_batch_makes_more_than_its_share_of_a_skill(
    make: Any, rate: Any, kind: str, others: int, batches: dict[str, int], limit: float, kept: dict[str, int]
) -> None:
    """A batch is one person's week, or what the metadata names; the share holds of what is left, not of what was."""

    def given(number: int, batch: str) -> Example:
        if kind == "annotator":
            return rate(number, annotator=batch, occurred_at=make(number % 48).occurred_at)
        return rate(number, annotator=f"user-{number}", metadata={"batch": batch})

    rows = [make(5000 + number, "log_error") for number in range(others)]
    rows += [make(9000 + number, "triage") for number in range(500)]
    rows += [given(1000 * index + n, name) for index, (name, n_of) in enumerate(batches.items()) for n in range(n_of)]
    left, dropped = trust.bounded(rows, LIMITS.model_copy(update={"max_influence": limit}))
    names = Counter(row.annotator if kind == "annotator" else row.metadata["batch"] for row in left if row.rating)
    assert names == kept
    assert len(left) + len(dropped) == len(rows)
    of_skill = sum(row.skill == "log_error" for row in left)
    assert all(n <= limit * of_skill + 1e-9 for n in names.values())


def test_the_oldest_of_a_batch_stay(make: Any, rate: Any) -> None:
    rows = [make(5000 + number, "log_error") for number in range(90)] + [rate(number) for number in range(30)][::-1]
    left, _ = trust.bounded(rows, LIMITS)
    assert sorted(int(row.source_id) for row in left if row.rating) == list(range(10))


def test_a_repeated_example_counts_as_often_as_it_is_trained_on(make: Any, rate: Any) -> None:
    rows = [make(5000 + number, "log_error") for number in range(90)] + [rate(number) for number in range(6)] * 2
    left, dropped = trust.bounded(rows, LIMITS)
    assert sum(row.rating == 5 for row in left) == 10
    assert [drop.source_id for drop in dropped] == ["5"]


def test_influence_is_told_by_person_and_by_batch(make: Any, rate: Any) -> None:
    rows = [make(5000 + number, "log_error") for number in range(16)]
    rows += [rate(number, annotator="Ada") for number in range(3)]
    rows += [rate(24 * 7, annotator="bob", metadata={"batch": "import-1"})]
    told = trust.influence(rows, LIMITS)
    assert (told["examples"], told["share"], told["limit"]) == (4, 0.2, 0.1)
    assert told["users"] == [
        {"user": "ada", "skill": "log_error", "examples": 3, "share": 0.15},
        {"user": "bob", "skill": "log_error", "examples": 1, "share": 0.05},
    ]
    assert told["batches"] == [
        {"batch": "ada 2026-W01", "skill": "log_error", "examples": 3, "share": 0.15},
        {"batch": "bob 2026-W02", "skill": "log_error", "examples": 1, "share": 0.05},
        {"batch": "import-1", "skill": "log_error", "examples": 1, "share": 0.05},
    ]


def test_a_flood_of_feedback_stays_within_its_bounds_and_is_told(
    tmp_path: Path, make: Any, many: Any, rate: Any, take: Any, settings: DatasetSettings
) -> None:
    """One person with three hundred good-looking ratings, weighted up, in every mode of what is written."""
    flood = [rate(3000 + n, annotator="Eve@corp.example.com", occurred_at=make(n).occurred_at) for n in range(300)]
    late = [make(4000)]
    weighted = settings.model_copy(update={"weights": {"log_error": 3.0}})
    ref = dataset.build(
        tmp_path / "ds", take([*many(600), *flood, *late]), tmp_path / "splits.parquet", weighted, "full"
    )
    train = [row for row in read_examples(ref.path / "train.parquet") if row.skill == "log_error"]
    told = json.loads((ref.path / "dataset.json").read_text())
    evil = sum(row.source == "feedback" for row in train)
    assert 0 < evil <= 0.1 * len(train)
    assert told["feedback"]["examples"] == evil
    assert [entry["examples"] for entry in told["feedback"]["users"]] == [evil]
    reasons = {entry["reason"]: entry["count"] for entry in told["drops"]}
    assert reasons[trust.OVER_USER] == 250
    assert reasons[trust.OVER_BATCH] > 0
    assert "eve@" not in (ref.path / "dataset.json").read_text().lower()


def test_weights_do_not_lift_feedback_above_its_bound(
    tmp_path: Path, many: Any, make: Any, rate: Any, take: Any, settings: DatasetSettings
) -> None:
    """All of one person's week is of one class, and that class is trained on four times over."""
    answer = {"category": "timeout", "severity": "low", "confidence": "high"}
    rows = [rate(3000 + n, occurred_at=make(n).occurred_at) for n in range(12)]
    rows = [row.model_copy(update={"answer": {**row.answer, **answer}}) for row in rows]
    weighted = settings.model_copy(update={"weights": {"log_error/timeout": 4.0}})
    ref = dataset.build(
        tmp_path / "ds", take([*many(600), *rows, make(4000)]), tmp_path / "splits.parquet", weighted, "full"
    )
    train = [row for row in read_examples(ref.path / "train.parquet") if row.skill == "log_error"]
    feedback = [row for row in train if row.source == "feedback"]
    assert 0 < len(feedback) <= 0.1 * len(train)
    assert len(feedback) == 4 * len({row.id for row in feedback})


def test_a_flood_of_one_class_does_not_stop_the_build(
    tmp_path: Path, many: Any, make: Any, rate: Any, take: Any, settings: DatasetSettings
) -> None:
    """What is over its influence is gone before the balance of the classes is judged."""
    answer = {"category": "timeout", "severity": "low", "confidence": "high"}
    rows = [rate(3000 + n, annotator=f"user-{n}", occurred_at=make(n).occurred_at) for n in range(800)]
    rows = [
        row.model_copy(
            update={"answer": {**row.answer, **answer}, "metadata": {"reviewed_by": "eve", "batch": "import"}}
        )
        for row in rows
    ]
    ref = dataset.build(
        tmp_path / "ds", take([*many(600), *rows, make(4000)]), tmp_path / "splits.parquet", settings, "full"
    )
    told = json.loads((ref.path / "dataset.json").read_text())
    assert 0 < told["feedback"]["batches"][0]["share"] <= 0.1
