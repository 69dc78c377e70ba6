"""The dataset stage: from a snapshot of examples to three Parquet files, what was left out and why, and a card."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.dataset import card, choose, split, summary
from opstune.dataset.choose import Parts
from opstune.dataset.curate import Curated, curate
from opstune.dataset.split import SPLITS
from opstune.dataset.summary import Summary
from opstune.errors import ConfigError, DataError
from opstune.examples import Example
from opstune.settings import DatasetSettings, Mode
from opstune.store import read_snapshot
from opstune.tables import write_examples

log = logging.getLogger(__name__)


def build(
    folder: Path, examples: Ref, splits: Path, settings: DatasetSettings, mode: Mode, parent: Path | None = None
) -> Ref:
    """Build a dataset from a snapshot of examples.

    ``splits`` is the Parquet file that remembers every example's split for ever; it is updated.
    ``parent`` is the champion's dataset folder: in incremental mode the training file holds what the
    champion was not trained on plus a replay sample; in both modes the card says what changed.
    Counts of the ref: train, validation, test, new, replayed.

    Raises:
        IntegrityError: an input file is not what its manifest says.
        ConfigError: incremental without a parent, or a configured skill does not exist.
        DataError: too few examples, one class above all, nothing new, or the parent was trained on the test set.
        ServiceDown: another build holds the splits file.
    """
    if mode == "incremental" and parent is None:
        raise ConfigError(
            "an incremental dataset needs a champion's dataset to add to", "mode", "Run a full retrain first."
        )
    champion = artifacts.open_ref(parent) if parent else None

    def make(partial: Path) -> dict[str, float]:
        artifacts.verify(examples)
        before = summary.read(artifacts.verify_file(champion, summary.FILE).parent) if champion else None
        records = list(read_snapshot(examples))
        with split.locked(splits):
            assigned = split.read(splits)
            curated = curate(records, assigned, settings)
            counts = write(partial, curated, settings, mode, before)
            if curated.assignments != assigned:
                split.write(splits, curated.assignments)
        log.info("dataset: %s", ", ".join(f"{n:,.0f} {name}" for name, n in counts.items()))
        return counts

    asked = {**settings.model_dump(mode="json"), "mode": mode}
    return artifacts.build(folder, "dataset", {"examples": examples, "parent": champion}, asked, make)


def write(
    folder: Path, curated: Curated, settings: DatasetSettings, mode: Mode, parent: Summary | None
) -> dict[str, float]:
    """Write the files of a dataset and return its counts. The same arguments give the same bytes.

    Raises:
        DataError: nothing is new, or the parent was trained on the test set.
    """
    train = curated.parts["train"]
    trained_before = set(parent["train_ids"]) if parent else set()
    _refuse_tested(curated.parts["test"], trained_before)
    new, replayed = train, list[Example]()
    if mode == "incremental":
        new, replayed = choose.incremental(train, trained_before, settings.replay_share, settings.seed)
    written: Parts = {**curated.parts, "train": [*new, *replayed]}
    for name in SPLITS:
        written[name] = sorted(written[name], key=lambda example: (example.occurred_at, example.id))
        write_examples(folder / f"{name}.parquet", written[name])
    counts: dict[str, int] = {name: len(written[name]) for name in SPLITS}
    counts |= {"new": len(new), "replayed": len(replayed)}
    told = summary.summarise(curated, written, counts, mode, settings.seed, parent)
    lines = (
        json.dumps(drop.record(), ensure_ascii=False)
        for drop in sorted(curated.dropped, key=lambda d: (d.reason, d.id))
    )
    artifacts.write_text(folder / "dropped.jsonl", "".join(f"{line}\n" for line in lines))
    artifacts.write_text(folder / summary.FILE, json.dumps(told, indent=1, ensure_ascii=False))
    artifacts.write_text(folder / "card.html", card.render(told, written, curated.clusters))
    return {name: float(n) for name, n in counts.items()}


def _refuse_tested(test: list[Example], trained_before: set[str]) -> None:
    seen = sum(example.id in trained_before for example in test)
    if seen:
        what = f"{seen} examples of the test set were in the champion's training data, so it cannot be measured on them"
        todo = "The splits file was lost or replaced: restore it from a backup, or retrain without a champion."
        raise DataError(what, "splits file", todo)
