"""What of one side of the split stands in another: dropped by the rules, and looked for again before writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opstune import dataset
from opstune.dataset import leaks
from opstune.dataset.choose import Parts
from opstune.dataset.leaks import Questions, check, decontaminate
from opstune.dataset.split import SPLITS, Assignments
from opstune.errors import DataError
from opstune.examples import Example
from opstune.settings import DatasetSettings
from opstune.simulate.examples import simulate_examples
from opstune.tables import read_examples

TEXT = "the payment queue of the checkout service stopped after the broker ran out of disk on its second volume"
FILLER = "somebody wrote this down in a hurry and added what else came to mind while waiting for the pager"


def titled(make: Any, number: int, *texts: str, **changes: Any) -> Example:
    """Example ``number`` with these texts as its fields."""
    context = {"title": texts[0], **{f"field_{n}": text for n, text in enumerate(texts[1:])}}
    return make(number * 3, "triage", context=context, **changes)


def quoting(make: Any, number: int, row: Example) -> Example:
    """A retrospective that quotes an incident between other words: no near duplicate of it."""
    before, after = (make(start + number, "triage").context["title"] for start in (10_000, 20_000))
    return titled(make, 1000 + number, before, row.context["title"], after)


def replaced(text: str, *changes: tuple[int, str]) -> str:
    words = text.split()
    for place, word in changes:
        words[place] = word
    return " ".join(words)


@pytest.mark.parametrize(
    ("other", "share"),
    [
        ((TEXT,), 1.0),
        ((TEXT.upper() + "!",), 1.0),
        ((f"{FILLER} {TEXT} {FILLER}",), 1.0),
        ((FILLER, TEXT), 1.0),
        ((replaced(TEXT, (0, "a")),), 15 / 16),
        ((replaced(TEXT, (9, "some")),), 12 / 16),
        ((" ".join(TEXT.split()[:13]),), 10 / 16),
        ((" ".join(TEXT.split()[:12]),), None),
        ((replaced(TEXT, (6, "x"), (12, "y")),), None),
        ((" ".join(reversed(TEXT.split())),), None),
        ((FILLER,), None),
    ],
)
def test_the_share_of_a_question_that_stands_in_another_example(
    make: Any, other: tuple[str, ...], share: float | None
) -> None:
    held, others = [titled(make, 0, FILLER[:40]), titled(make, 1, TEXT)], [make(99), titled(make, 2, *other)]
    found = Questions([*held, *others]).covered(held, others)
    of_text = [cover for cover in found if cover.held == 1]
    assert [(cover.other, cover.share) for cover in of_text] == ([(1, pytest.approx(share))] if share else [])


def test_times_and_the_names_of_fields_say_nothing(make: Any) -> None:
    one, two = (
        make(n * 3, "log_error", context={"log": f"2026-01-0{n}T07:00:0{n}Z {TEXT}\n12:3{n}:00 and so on", key: "x"})
        for n, key in ((1, "job"), (2, "task"))
    )
    assert [cover.share for cover in Questions([one, two]).covered([one], [two])] == [1.0]


@pytest.mark.parametrize(
    ("held", "other", "same"),
    [
        ("disk full", "Disk full!", True),
        ("disk full", TEXT + " disk full", False),
        ("the disk of broker 7 is full", "once more the disk of broker 7 is full", True),
        ("disk of broker 7 is full", "once more disk of broker 7 is full", False),
    ],
)
def test_a_short_question_tells_too_little_to_be_found_inside_another(
    make: Any, held: str, other: str, same: bool
) -> None:
    pair = titled(make, 0, held), titled(make, 1, other)
    assert bool(Questions(pair).covered(pair[:1], pair[1:])) is same


def test_wording_that_many_examples_share_tells_nothing(make: Any) -> None:
    """A hundred alerts of one rule, each on its host; one of them once more, with a remark."""
    alerts = [titled(make, n, f"{TEXT} on host-{n} in zone-{n}", "see the page of the team") for n in range(100)]
    again = titled(make, 200, f"{TEXT} on host-7 in zone-7", "see the page of the team", FILLER)
    found = Questions([*alerts, again]).covered(alerts[:10], [*alerts[10:], again])
    assert [(cover.held, cover.other, cover.share) for cover in found] == [(7, 90, 1.0)]


def test_the_very_same_question_is_found_however_many_ask_it(make: Any) -> None:
    rows = [titled(make, n, TEXT) for n in range(60)]
    found = Questions(rows).covered(rows[:1], rows[1:])
    assert [(cover.other, cover.share) for cover in found] == [(n, 1.0) for n in range(59)]


def test_a_pair_that_was_not_compared_is_not_compared_when_others_have_left(make: Any) -> None:
    """Else what is wording in the whole history would be a leak in the few examples of one week."""
    alerts = [titled(make, n, f"{TEXT} on h{n}") for n in range(100)]
    questions = Questions(alerts)
    assert questions.covered(alerts[:1], alerts[1:]) == []
    assert questions.covered(alerts[:1], alerts[1:3]) == []
    assert Questions(alerts[:3]).covered(alerts[:1], alerts[1:3]) != []


@pytest.mark.parametrize(
    ("before", "gone", "reason"),
    [
        ({}, "train", "contains a test example"),
        ({"test": "test"}, "train", "contains a test example"),
        ({"test": "test", "train": "train"}, "train", "contains a test example"),
        ({"train": "train"}, "test", "is contained in an example that was placed before"),
    ],
)
def test_the_training_example_goes_unless_models_know_it_and_the_question_is_new(
    make: Any, before: dict[str, Any], gone: str, reason: str
) -> None:
    parts: Parts = {
        "train": [titled(make, 1, FILLER, TEXT)],
        "validation": [titled(make, 2, "x")],
        "test": [titled(make, 3, TEXT)],
    }
    every = {side: examples[0].id for side, examples in parts.items()}
    assigned = Assignments({every[side]: placed for side, placed in before.items()})
    dropped = decontaminate(parts, Questions(example for of in parts.values() for example in of), assigned)
    other = "test" if gone == "train" else "train"
    assert [(drop.id, drop.reason, drop.detail) for drop in dropped] == [(every[gone], reason, every[other])]
    assert {side: len(examples) for side, examples in parts.items()} == {**dict.fromkeys(SPLITS, 1), gone: 0}


def test_validation_gives_way_to_test_and_training_to_validation(make: Any) -> None:
    parts: Parts = {
        "train": [titled(make, 1, f"again {FILLER}")],
        "validation": [titled(make, 2, f"{TEXT} {TEXT}"), titled(make, 3, FILLER)],
        "test": [titled(make, 4, TEXT)],
    }
    kept = parts["validation"][1]
    dropped = decontaminate(parts, Questions(example for of in parts.values() for example in of), Assignments())
    assert {drop.reason for drop in dropped} == {"contains a test example", "contains a validation example"}
    assert (parts["train"], parts["validation"]) == ([], [kept])


@pytest.mark.parametrize(
    ("changes", "linked", "told"),
    [
        ({}, False, None),
        ({"id": "tested"}, False, "same id: tested in test, tested in train"),
        ({"group_id": "INC-tested"}, False, "same incident: tested in test, trained in train"),
        ({"context": {"title": "full"}, "answer": {"severity": "SEV-1"}}, False, "same text: tested in test"),
        ({}, True, "near duplicates: trained in train, tested in test"),
        ({"context": {"title": "new", "history": TEXT}}, False, "100% contained: tested in test, trained in train"),
    ],
)
def test_a_leak_that_remains_fails_the_run_and_names_the_pair(
    make: Any, changes: dict[str, Any], linked: bool, told: str | None
) -> None:
    text = "full" if changes.get("context") == {"title": "full"} else TEXT
    tested = titled(make, 1, text, id="tested", group_id="INC-tested", answer={"severity": "SEV-1"})
    trained = make(30, "triage", **{"id": "trained", **changes})
    parts: Parts = {"train": [make(60), trained], "validation": [make(90)], "test": [tested]}
    pairs = [("trained", "tested"), ("tested", "gone")] if linked else []
    questions = Questions(example for of in parts.values() for example in of)
    if told is None:
        check(parts, questions, pairs)
        return
    with pytest.raises(DataError, match="leak from one side") as caught:
        check(parts, questions, pairs)
    assert told in str(caught.value)


def test_of_many_leaks_five_pairs_are_named(make: Any) -> None:
    rows = [make(number) for number in range(0, 27, 3)]
    parts: Parts = {"train": rows, "validation": [], "test": rows}
    with pytest.raises(DataError, match=r"and \d+ more") as caught:
        check(parts, Questions(rows), [])
    assert str(caught.value).count(" in train") == 5


def test_a_build_that_would_leak_writes_nothing_and_remembers_nothing(
    tmp_path: Path, make: Any, many: Any, take: Any, settings: DatasetSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With decontamination broken, the check before writing still finds every contained question."""
    rows = many(400)
    quotes = [quoting(make, n, row) for n, row in enumerate(row for row in rows if row.skill == "triage")]
    monkeypatch.setattr(leaks, "decontaminate", lambda *_: [])
    splits = tmp_path / "splits.parquet"
    with pytest.raises(DataError, match=r"leak .*: \d+% contained: .* in test, .* in train"):
        dataset.build(tmp_path / "ds", take([*rows, *quotes]), splits, settings, "full")
    assert not (tmp_path / "ds").exists()
    assert not splits.exists()


def test_questions_quoted_in_other_incidents_leave_training_and_are_counted(
    tmp_path: Path, make: Any, many: Any, take: Any, settings: DatasetSettings
) -> None:
    rows = many(400)
    asked = [row for row in rows if row.skill == "triage"]
    quotes = [quoting(make, n, row) for n, row in enumerate(asked)]
    ref = dataset.build(tmp_path / "ds", take([*rows, *quotes]), tmp_path / "splits.parquet", settings, "full")
    told = json.loads((ref.path / "dataset.json").read_text())
    side = {row.id: name for name in SPLITS for row in read_examples(ref.path / f"{name}.parquet")}
    assert told["duplicates"]["near"] == 0
    assert told["leaks"]["dropped"] > 0
    rank = {"train": 0, "validation": 1, "test": 2}
    for question, quote in zip(asked, quotes, strict=True):
        assert quote.id not in side or rank[side[quote.id]] >= rank[side[question.id]]
    drops = [json.loads(line) for line in (ref.path / "dropped.jsonl").read_text().splitlines()]
    named = {drop["id"]: drop["detail"] for drop in drops if drop["reason"] == "contains a test example"}
    assert named == {
        quote.id: question.id
        for question, quote in zip(asked, quotes, strict=True)
        if side[question.id] == "test" and quote.id in named
    }


def test_a_new_test_question_that_a_known_model_was_taught_is_left_out_for_good(
    tmp_path: Path, make: Any, many: Any, take: Any, settings: DatasetSettings
) -> None:
    """The champion learnt the quote weeks before the incident itself arrives, so the question would test nothing."""
    rows = many(400)
    later = [make(6000 + 3 * n, "triage") for n in range(60)]
    quotes = [quoting(make, n, row) for n, row in enumerate(later)]
    splits = tmp_path / "splits.parquet"
    first = dataset.build(tmp_path / "1", take([*rows, *quotes]), splits, settings, "full")
    trained = {row.id for row in read_examples(first.path / "train.parquet")}
    snapshot = take(later)
    for number in (2, 3):
        ref = dataset.build(tmp_path / str(number), snapshot, splits, settings, "full", first.path)
        tested = {row.id for row in read_examples(ref.path / "test.parquet")}
        assert trained <= {row.id for row in read_examples(ref.path / "train.parquet")}
        assert not [n for n, row in enumerate(later) if row.id in tested and quotes[n].id in trained]
        told = json.loads((ref.path / "dataset.json").read_text())
        reasons = {entry["reason"]: entry["count"] for entry in told["drops"]}
        assert reasons[leaks.CONTAINED] > 0


def test_nothing_unrelated_of_a_made_up_history_is_taken_for_a_leak() -> None:
    from opstune.settings import SimulateSettings

    rows = simulate_examples(SimulateSettings(), 3000)
    groups = sorted({row.group_id for row in rows})
    held = set(groups[::5])
    parts: Parts = {
        "train": [row for row in rows if row.group_id not in held],
        "validation": [],
        "test": [row for row in rows if row.group_id in held],
    }
    assert decontaminate(parts, Questions(rows), Assignments()) == []
