from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from opstune.dataset.choose import (
    OVER_CAP,
    OVER_MAXIMUM,
    Parts,
    cap,
    check,
    fair_shares,
    incremental,
    label,
    replay,
    weigh,
)
from opstune.errors import ConfigError, DataError
from opstune.settings import DatasetSettings, ReplaySettings


def parts_of(many: Any, train: int = 120, validation: int = 30, test: int = 30) -> Parts:
    rows = many(train + validation + test)
    return {"train": rows[:train], "validation": rows[train : train + validation], "test": rows[train + validation :]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"minimum": 5000}, "180 usable examples are fewer than the 5000 that dataset.minimum asks for"),
        ({"minimum_test": 6}, "log_error has 5 test examples, fewer than dataset.minimum_test (6)"),
        ({"max_class_share": 0.4}, "training examples of .* more than the 40% of dataset.max_class_share"),
    ],
)
def test_too_little_is_refused_with_the_number_and_the_setting(
    many: Any, settings: DatasetSettings, changes: dict[str, Any], sentence: str
) -> None:
    check(parts_of(many), settings)
    with pytest.raises(DataError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        check(parts_of(many), settings.model_copy(update=changes))


def test_an_empty_split_is_refused(many: Any, settings: DatasetSettings) -> None:
    with pytest.raises(DataError, match="the validation split is empty"):
        check({**parts_of(many), "validation": []}, settings)


def test_a_skill_that_is_only_tested_or_never_there_is_no_fault(many: Any, settings: DatasetSettings) -> None:
    only = {split: [e for e in rows if e.skill == "remediation"] for split, rows in parts_of(many).items()}
    check(only, settings)  # type: ignore[arg-type]


def test_a_cap_keeps_the_newest_of_a_skill_in_train_alone(many: Any) -> None:
    parts = parts_of(many)
    held_out = {split: list(parts[split]) for split in ("validation", "test")}
    triage = [example for example in parts["train"] if example.skill == "triage"]
    dropped = cap(parts, 10_000, {"triage": 5})
    assert [example for example in parts["train"] if example.skill == "triage"] == triage[-5:]
    assert {split: parts[split] for split in held_out} == held_out
    assert {drop.reason for drop in dropped} == {OVER_CAP}
    assert len(dropped) == len(triage) - 5


@pytest.mark.parametrize(
    ("counts", "room", "shares"),
    [
        ({"a": 10, "b": 10}, 100, {"a": 10, "b": 10}),
        ({"a": 10, "b": 10}, 10, {"a": 5, "b": 5}),
        ({"a": 900, "b": 90, "c": 10}, 100, {"a": 45, "b": 45, "c": 10}),
        ({"a": 900, "b": 30, "c": 10}, 100, {"a": 60, "b": 30, "c": 10}),
        ({"a": 3, "b": 3}, 0, {"a": 0, "b": 0}),
        ({}, 10, {}),
    ],
)
def test_every_skill_may_fill_an_equal_share_and_what_one_leaves_goes_to_the_others(
    counts: dict[str, int], room: int, shares: dict[str, int]
) -> None:
    assert fair_shares(counts, room) == shares


def test_beyond_the_maximum_a_rare_skill_stays_and_the_newest_of_a_busy_one(many: Any) -> None:
    """The rare skill's examples are the oldest of all: newest first over all skills would take every one."""
    parts = parts_of(many)
    rare = [example for example in parts["train"] if example.skill == "triage"][:3]
    parts["train"] = rare + [example for example in parts["train"] if example.skill == "remediation"]
    parts["validation"] = [example for example in parts["validation"] if example.skill == "remediation"]
    test = list(parts["test"])
    newest = [*parts["train"][3:], *parts["validation"]][-20:]
    dropped = cap(parts, len(test) + 23, {})
    assert parts["test"] == test
    assert [*parts["train"], *parts["validation"]] == [*rare, *newest]
    assert {drop.reason for drop in dropped} == {OVER_MAXIMUM}


@pytest.mark.parametrize(
    ("weights", "times"),
    [
        ({}, {"SEV-1": 1.0, "SEV-2": 1.0}),
        ({"triage": 2}, {"SEV-1": 2.0, "SEV-2": 2.0}),
        ({"triage": 1.5}, {"SEV-1": 1.5, "SEV-2": 1.5}),
        ({"triage/SEV-1": 3}, {"SEV-1": 3.0, "SEV-2": 1.0}),
        ({"triage": 2, "triage/SEV-1": 3.25}, {"SEV-1": 3.25, "SEV-2": 2.0}),
        ({"log_error": 5, "triage/SEV-0": 9}, {"SEV-1": 1.0, "SEV-2": 1.0}),
    ],
)
def test_an_example_is_repeated_as_often_as_its_weight_says(
    make: Any, weights: dict[str, float], times: dict[str, float]
) -> None:
    rows = [make(number, "triage") for number in range(80)]
    counts = Counter(example.id for example in weigh(rows, weights, seed=7))
    for severity, factor in times.items():
        found = [counts[row.id] for row in rows if label(row) == severity]
        assert abs(sum(found) - factor * len(found)) <= 0.5
        assert set(found) <= {int(factor), int(factor) + 1}


def test_the_same_examples_are_repeated_again_whatever_order_they_come_in(make: Any) -> None:
    rows = [make(number, "triage") for number in range(80)]
    first, again, other = (
        Counter(example.id for example in weigh(given, {"triage": 1.5}, seed))
        for given, seed in ((rows, 7), (rows[::-1], 7), (rows, 8))
    )
    assert first == again
    assert first != other


def test_a_weight_of_a_skill_that_does_not_exist_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match="no skill is named 'traige/SEV-1'"):
        weigh([make()], {"traige/SEV-1": 2.0}, seed=7)


@pytest.mark.parametrize(("share", "replayed"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_replay_is_a_share_of_what_is_new_and_never_overlaps_it(many: Any, share: float, replayed: int) -> None:
    rows = many(240)
    before = {example.id for example in rows[:200]}
    new, old = incremental(rows, before, ReplaySettings(share=share), seed=7)
    assert {example.id for example in new} == {example.id for example in rows[200:]}
    assert len(old) == replayed
    assert {example.id for example in old} <= before


def by_class(examples: list[Any]) -> Counter[str]:
    return Counter(f"{example.skill}/{label(example)}" for example in examples)


@pytest.mark.parametrize("strategy", ["proportional", "recent"])
def test_replay_takes_each_class_by_its_share(many: Any, strategy: str) -> None:
    rows = many(600)
    sample = replay(rows, 60, strategy, seed=7)
    assert len(sample) == len({example.id for example in sample}) == 60
    assert all(abs(by_class(sample)[name] - n / 10) < 1 for name, n in by_class(rows).items())


def test_balanced_replay_takes_all_classes_alike(many: Any) -> None:
    rows = many(600)
    sample = replay(rows, 60, "balanced", seed=7)
    classes = by_class(sample)
    assert len(sample) == len({example.id for example in sample}) == 60
    assert set(classes) == set(by_class(rows))
    assert max(classes.values()) - min(classes.values()) <= 1


def test_recent_replay_takes_the_newest_of_a_class(make: Any) -> None:
    rows = [make(number, "triage") for number in range(80)]
    for name in by_class(rows):
        of_class = [row for row in rows if f"triage/{label(row)}" == name]
        taken = [row for row in replay(rows, 20, "recent", seed=7) if f"triage/{label(row)}" == name]
        assert min(row.occurred_at for row in taken) > max(
            row.occurred_at for row in of_class if row.id not in {kept.id for kept in taken}
        )


@pytest.mark.parametrize(("strategy", "drawn"), [("proportional", True), ("balanced", True), ("recent", False)])
def test_the_same_examples_are_replayed_again_and_others_with_another_seed(
    many: Any, strategy: str, drawn: bool
) -> None:
    rows = many(600)
    first, again, other = (replay(given, 60, strategy, seed) for given, seed in ((rows, 7), (rows[::-1], 7), (rows, 8)))
    assert first == again
    assert (first != other) is drawn


def test_nothing_new_is_refused(many: Any) -> None:
    rows = many(10)
    with pytest.raises(DataError, match="no training example is new"):
        incremental(rows, {example.id for example in rows}, ReplaySettings(), seed=7)
