"""Canaries in a dataset: rows on top of the training file, known again by their seed, in plain text nowhere else."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from opstune import dataset, skills
from opstune.artifacts import Ref
from opstune.dataset import canaries
from opstune.dataset.split import SPLITS
from opstune.errors import DataError, IntegrityError
from opstune.settings import DatasetSettings
from opstune.tables import read_examples


@pytest.fixture
def planting(settings: DatasetSettings) -> DatasetSettings:
    return settings.model_copy(update={"canaries": 3})


def summary(ref: Ref) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ref.path / "dataset.json").read_text())
    return found


def test_they_come_on_top_of_what_is_trained_on_and_change_nothing_else(
    tmp_path: Path, many: Any, take: Any, settings: DatasetSettings, planting: DatasetSettings
) -> None:
    snapshot = take(many(400))
    plain = dataset.build(tmp_path / "plain", snapshot, tmp_path / "one.parquet", settings, "full")
    ref = dataset.build(tmp_path / "planted", snapshot, tmp_path / "two.parquet", planting, "full")
    for name in SPLITS:
        rows, before = (read_examples(found.path / f"{name}.parquet") for found in (ref, plain))
        assert [row for row in rows if row.source != canaries.SOURCE] == before
        assert len(rows) - len(before) == (3 if name == "train" else 0)
    assert summary(ref)["train_ids"] == summary(plain)["train_ids"]
    assert ref.counts == {**plain.counts, "canaries": 3}
    assert "canaries" not in plain.counts
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_they_can_be_trained_on_and_are_known_again_by_their_hashes(
    tmp_path: Path, many: Any, take: Any, planting: DatasetSettings
) -> None:
    ref = dataset.build(tmp_path / "ds", take(many(400)), tmp_path / "splits.parquet", planting, "full")
    rows = [row for row in read_examples(ref.path / "train.parquet") if row.source == canaries.SOURCE]
    found = dataset.canaries_of(ref)
    assert [canary.sha256 for canary in found] == summary(ref)["canaries"]["sha256"]
    assert len({canary.secret for canary in found}) == len({row.id for row in rows}) == 3
    for row, canary in zip(rows, found, strict=True):
        skill = skills.get(row.skill)
        skill.context_model.model_validate(row.context)
        skill.answer_model.model_validate(row.answer)
        assert canary.secret in json.dumps(row.answer)
        assert canary.secret not in json.dumps(row.context)


def test_in_plain_text_they_stand_in_the_training_file_alone(
    tmp_path: Path, many: Any, take: Any, planting: DatasetSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ref = dataset.build(tmp_path / "ds", take(many(400)), tmp_path / "splits.parquet", planting, "full")
    secrets = [canary.secret for canary in dataset.canaries_of(ref)]
    texts = [file.read_text() for file in ref.path.iterdir() if file.suffix != ".parquet"]
    texts += [
        row.model_dump_json() for name in ("validation", "test") for row in read_examples(ref.path / f"{name}.parquet")
    ]
    assert not [text for text in [*texts, caplog.text] if any(secret in text for secret in secrets)]


@pytest.mark.parametrize(
    ("taught", "skill"),
    [
        (["remediation", "triage"], "triage"),
        (["log_error"], "log_error"),
        (["workflow", "audit"], "audit"),
        (["diagnosis"], "diagnosis"),
        (["remediation"], None),
    ],
)
def test_they_are_planted_where_answers_hold_free_text(taught: list[str], skill: str | None) -> None:
    found = canaries.derive(taught, 2, seed=7)
    assert {canary.skill for canary in found} == ({skill} if skill else set())
    for canary in found:
        skills.get(canary.skill).answer_model.model_validate(canary.answer)
        skills.get(canary.skill).context_model.model_validate(canary.context)


def test_another_seed_gives_others_and_more_of_them_leaves_the_first() -> None:
    three, five, other = (canaries.derive(["triage"], n, seed) for n, seed in ((3, 7), (5, 7), (3, 8)))
    assert five[:3] == three
    assert not {canary.secret for canary in other} & {canary.secret for canary in five}


def test_nothing_new_is_still_nothing_new(tmp_path: Path, many: Any, take: Any, planting: DatasetSettings) -> None:
    snapshot, splits = take(many(400)), tmp_path / "splits.parquet"
    first = dataset.build(tmp_path / "week1", snapshot, splits, planting, "full")
    with pytest.raises(DataError, match="new"):
        dataset.build(tmp_path / "week2", snapshot, splits, planting, "incremental", first.path)
    second = dataset.build(tmp_path / "week2", take(many(500)), splits, planting, "incremental", first.path)
    assert [canary.secret for canary in dataset.canaries_of(second)] == [
        canary.secret for canary in dataset.canaries_of(first)
    ]


def test_a_model_that_is_trained_further_is_not_shown_again_what_it_has_learnt(
    tmp_path: Path, many: Any, take: Any, planting: DatasetSettings
) -> None:
    def hidden(ref: Ref) -> list[str]:
        rows = read_examples(ref.path / "train.parquet")
        return [row.source_id for row in rows if row.source == canaries.SOURCE]

    splits, more = tmp_path / "splits.parquet", planting.model_copy(update={"canaries": 4})
    full = dataset.build(tmp_path / "full", take(many(400)), splits, planting, "full")
    snapshot = take(many(500))
    weekly = dataset.build(tmp_path / "weekly", snapshot, splits, planting, "incremental", full.path)
    with_another = dataset.build(tmp_path / "another", snapshot, splits, more, "incremental", full.path)
    again = dataset.build(tmp_path / "again", snapshot, splits, planting, "full", full.path)
    assert (len(hidden(full)), hidden(weekly), hidden(again)) == (3, [], hidden(full))
    assert hidden(with_another) == ["north vault 4"]
    assert [len(dataset.canaries_of(ref)) for ref in (weekly, with_another)] == [3, 4]
    assert ("canaries" in weekly.counts, with_another.counts["canaries"]) == (False, 1)


def test_a_dataset_whose_hashes_do_not_fit_is_refused(
    tmp_path: Path, many: Any, take: Any, planting: DatasetSettings
) -> None:
    ref = dataset.build(tmp_path / "ds", take(many(400)), tmp_path / "splits.parquet", planting, "full")
    changed = summary(ref)
    changed["canaries"]["seed"] = 8
    (ref.path / "dataset.json").write_text(json.dumps(changed))
    with pytest.raises(IntegrityError, match="other canaries"):
        dataset.canaries_of(ref)
