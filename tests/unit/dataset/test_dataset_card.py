"""The card and dataset.json: what a person can read off them, and that it is true."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opstune import dataset
from opstune.artifacts import Ref
from opstune.dataset import lengths
from opstune.dataset.lengths import Tokenizer, by_skill, in_tokens
from opstune.errors import IntegrityError
from opstune.settings import DatasetSettings
from opstune.skills.base import SYSTEM

BASE = Path(__file__).parents[3] / "include" / "models" / "tiny-ops"
TINY = Tokenizer("tiny-ops", BASE / "tokenizer.json")


def told(ref: Ref) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ref.path / "dataset.json").read_text())
    return found


def words(ref: Ref) -> str:
    """The card's text, without tags and in one line."""
    html = re.sub(r"(?s)<style>.*?</style>|<[^>]+>", " ", (ref.path / "card.html").read_text())
    return " ".join(html.split())


@pytest.fixture
def build(tmp_path: Path, take: Any, settings: DatasetSettings) -> Any:
    """Build a dataset from examples, with changed settings and whatever else ``dataset.build`` takes."""
    number = iter(range(100))

    def build(examples: list[Any], changes: dict[str, Any] | None = None, mode: str = "full", **more: Any) -> Ref:
        asked = settings.model_copy(update=changes or {})
        folder = tmp_path / f"ds-{next(number)}"
        return dataset.build(folder, take(examples), tmp_path / "splits.parquet", asked, mode, **more)  # type: ignore[arg-type]

    return build


def test_each_source_says_how_much_it_gave_and_how_far_it_is_behind(make: Any, many: Any, build: Any) -> None:
    rows = many(300)
    end = rows[-1].occurred_at
    old = [make(900 + n, source="old-export", occurred_at=end - timedelta(days=12, hours=n)) for n in range(5)]
    failed = [make(950, source="broken", outcome="failure", occurred_at=end - timedelta(days=2))]
    ref = build([*rows, *old, *failed])
    assert told(ref)["sources"] == {
        "broken": {"read": 1, "kept": 0, "newest": failed[0].occurred_at.isoformat(), "age_days": 2.0},
        "made-up": {"read": 300, "kept": 300, "newest": end.isoformat(), "age_days": 0.0},
        "old-export": {"read": 5, "kept": 5, "newest": old[0].occurred_at.isoformat(), "age_days": 12.0},
    }
    assert "old-export 5 5 1 January 2026 12 days" in words(ref)
    assert "broken 1 0 nothing kept" in words(ref)


@pytest.mark.parametrize(("target", "said"), [(300, False), (301, True)])
def test_below_the_target_the_card_says_so_and_nothing_fails(
    make: Any, many: Any, build: Any, target: int, said: bool
) -> None:
    waiting = [make(900 + n, answer={}) for n in range(4)]
    ref = build([*many(300), *waiting], {"target": target})
    assert told(ref)["size"]["usable"] == 300
    sentence = f"300 usable examples are fewer than the {target} that are aimed at; 4 more wait for somebody"
    assert (sentence in words(ref)) is said


def test_the_sampling_rule_stands_on_the_card(many: Any, build: Any) -> None:
    ref = build(many(300), {"maximum": 200})
    assert sum(ref.counts[name] for name in ("train", "validation", "test")) == 200
    assert "At most 200 examples are kept. The test set stays whole. Every skill may fill an equal share" in words(ref)
    assert "over the maximum 100" in words(ref)


def test_weights_repeat_rows_and_nothing_hides_it(many: Any, build: Any) -> None:
    plain = build(many(300))
    ref = build(many(300), {"weights": {"triage": 2.0, "log_error/data": 1.5, "triage/SEV-0": 9.0}})
    summary, before = told(ref), told(plain)
    assert summary["train_ids"] == before["train_ids"]
    assert summary["splits"] == before["splits"]
    rows = {weight["of"]: (weight["examples"], weight["rows"]) for weight in summary["weights"]}
    triage = sum(before["splits"]["train"]["skills"]["triage"].values())
    data = before["splits"]["train"]["skills"]["log_error"]["data"]
    assert rows == {
        "triage": (triage, 2 * triage),
        "log_error/data": (data, data + round(data / 2)),
        "triage/SEV-0": (0, 0),
    }
    repeated = triage + round(data / 2)
    assert (ref.counts["repeated"], ref.counts["new"]) == (repeated, plain.counts["train"])
    assert ref.counts["train"] == plain.counts["train"] + repeated
    assert f"to train on, {repeated} of them repeats" in words(ref)


def test_agreement_is_shown_with_its_line_or_that_there_is_none(many: Any, build: Any) -> None:
    assert "Agreement between annotators No annotation." in words(build(many(300)))
    found = {
        "root_cause": {"items": 120, "annotators": 3, "measure": "krippendorff", "value": 0.93, "line": 0.9},
        "log_error": {"items": 2, "annotators": 1, "measure": "cohen", "value": None, "line": 0.9},
    }
    ref = build(many(300), agreement=found)
    assert told(ref)["agreement"] == found
    assert "log_error 2 1 cohen cannot say 0.90 root_cause 120 3 krippendorff 0.93 0.90" in words(ref)


def test_lengths_are_told_in_tokens_of_a_named_tokenizer(many: Any, build: Any) -> None:
    ref = build(many(300), tokenizer=TINY)
    summary = told(ref)
    assert summary["tokens"]["tokenizer"] == TINY.record()
    for skill, found in summary["tokens"]["skills"].items():
        assert summary["lengths"][skill]["median"] < found["median"] <= found["p95"] <= found["max"]
        assert sum(found["histogram"]) == found["counted"] == sum(summary["lengths"][skill]["histogram"])
    assert "as the tokenizer of tiny-ops (sha256" in words(ref)
    assert "no tokenizer was at hand" in words(build(many(300)))


def test_another_tokenizer_changes_no_example(many: Any, build: Any, tmp_path: Path) -> None:
    first, second = (build(many(300), tokenizer=tokenizer) for tokenizer in (TINY, None))
    files = [ref.manifest["files"] for ref in (first, second)]
    assert all(files[0][name] == files[1][name] for name in ("train.parquet", "validation.parquet", "test.parquet"))


def test_tokens_are_those_of_the_model(make: Any) -> None:
    from transformers import AutoTokenizer

    from opstune.dataset.duplicates import text_of

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    rows = [make(number, "triage") for number in range(30)]
    counts = [len(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in map(text_of, rows)]
    system = len(tokenizer(SYSTEM, add_special_tokens=False)["input_ids"])
    found = in_tokens(by_skill(rows), TINY, seed=7)["triage"]
    assert (found["max"], found["start"]) == (system + max(counts), system + min(counts))


def test_of_a_large_skill_a_seeded_sample_is_counted_and_the_longest_always(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "SAMPLE", 20)
    rows = [make(number, "triage") for number in range(200)]
    rows.append(make(500, "triage", context={"title": "very long " * 400}))
    found = in_tokens(by_skill(rows), TINY, seed=7)["triage"]
    assert found == in_tokens(by_skill(rows[::-1]), TINY, seed=7)["triage"]
    assert found != in_tokens(by_skill(rows), TINY, seed=8)["triage"]
    assert found["counted"] == 20
    assert found["max"] > 800


def test_a_file_that_is_no_tokenizer_is_refused(make: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"tokenizer.json cannot be read as a tokenizer \(broken\)"):
        in_tokens(by_skill([make()]), Tokenizer("broken", tmp_path / "tokenizer.json"), seed=7)


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_the_card_says_what_changed_since_the_champion(make: Any, many: Any, build: Any, mode: str) -> None:
    first = build([row for row in many(400) if row.skill != "log_error"])
    added = [make(900 + n, "log_error", source="task-logs") for n in range(60)]
    ref = build([*many(400), *added], mode=mode, parent=first.path)
    change = told(ref)["parent"]
    assert change["new_sources"] == ["task-logs"]
    assert {name.split(":")[0] for name in change["new_classes"]} == {"log_error"}
    assert change["gone_classes"] == []
    assert change["skills"]["log_error"]["before"] == 0 < change["skills"]["log_error"]["now"]
    assert change["splits"]["train"] == {"before": first.counts["train"], "now": ref.counts["train"]}
    assert "Sources it did not know: task-logs." in words(ref)


def test_a_correction_is_what_is_taught_and_the_original_is_kept(make: Any, many: Any, build: Any) -> None:
    from opstune.tables import read_examples

    original, right = {"severity": "SEV-3"}, {"severity": "SEV-0", "root_cause": "a full disk"}
    fixed = [
        make(900 + n, "triage", answer=right, corrections=original, human_validated=True, annotator="ada")
        for n in range(10)
    ]
    ref = build([*many(300), *fixed])
    written = {
        row.id: row for name in ("train", "validation", "test") for row in read_examples(ref.path / f"{name}.parquet")
    }
    for example in fixed:
        assert (written[example.id].answer, written[example.id].corrections) == (right, original)


def test_what_a_person_validated_wins_over_its_earlier_duplicates(make: Any, many: Any, build: Any) -> None:
    rows = many(300)
    first = [row for row in rows if row.skill == "triage"]
    checked = [
        row.model_copy(
            update={
                "id": f"checked-{n}",
                "group_id": f"C-{n}",
                "human_validated": True,
                "occurred_at": rows[-1].occurred_at,
            }
        )
        for n, row in enumerate(first)
    ]
    ref = build([*rows, *checked])
    drops = [json.loads(line) for line in (ref.path / "dropped.jsonl").read_text().splitlines()]
    assert {drop["id"]: drop["detail"] for drop in drops if drop["reason"] == "exact duplicate"} == {
        row.id: copy.id for row, copy in zip(first, checked, strict=True)
    }


def test_what_a_person_answered_otherwise_leaves_training_and_names_whose_answer_counts(
    make: Any, many: Any, build: Any
) -> None:
    rows = many(300)
    unsure = [row for row in rows if row.skill == "triage"]
    sure = [
        row.model_copy(
            update={
                "id": f"sure-{n}",
                "group_id": row.group_id,
                "human_validated": True,
                "answer": {"severity": ("SEV-0", "SEV-3")[n % 2], "root_cause": row.context["title"][::-1]},
            }
        )
        for n, row in enumerate(unsure)
    ]
    ref = build([*rows, *sure])
    drops = [json.loads(line) for line in (ref.path / "dropped.jsonl").read_text().splitlines()]
    named = {drop["id"]: drop["detail"] for drop in drops}
    assert named == {row.id: answer.id for row, answer in zip(unsure, sure, strict=True)}
    assert {drop["reason"] for drop in drops} == {"a person answered the same question otherwise"}
