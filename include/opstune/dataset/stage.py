"""The dataset stage: from a snapshot of examples to three Parquet files, what was left out and why, and a card."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from opstune import artifacts
from opstune.annotated import joined
from opstune.artifacts import Ref
from opstune.dataset import canaries, card, choose, leaks, split, summary, trust
from opstune.dataset.choose import Parts
from opstune.dataset.curate import Curated, curate
from opstune.dataset.lengths import Tokenizer
from opstune.dataset.pseudonyms import pseudonym
from opstune.dataset.split import SPLITS
from opstune.dataset.summary import Agreement, Chosen, Summary, Told
from opstune.errors import ConfigError, DataError
from opstune.examples import Example
from opstune.security.keys import Keyring
from opstune.settings import DatasetSettings, Mode
from opstune.store import read_snapshot
from opstune.tables import write_examples

log = logging.getLogger(__name__)


def build(
    folder: Path,
    examples: Ref,
    splits: Path,
    settings: DatasetSettings,
    mode: Mode,
    parent: Path | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    agreement: Agreement | None = None,
    keyring: Keyring | None = None,
) -> Ref:
    """Build a dataset from a snapshot of examples.

    ``splits`` is the Parquet file that remembers every example's split for ever; it is updated.
    ``parent`` is the champion's dataset folder: in incremental mode the training file holds what the
    champion was not trained on plus a replay sample; in both modes the card says what changed.
    ``tokenizer`` counts lengths; without it there are words only. ``agreement`` is what annotation found:
    project → items, annotators, measure, value and the line that it must reach. ``keyring`` opens the example store
    where its key is a secret.
    Counts of the ref: train (rows), validation, test, and of train: new, replayed, repeated; and canaries, where some
    are planted: rows of the training file that no other figure counts.

    Raises:
        IntegrityError: an input file is not what its manifest says.
        ConfigError: incremental without a parent, or a configured skill does not exist.
        DataError: too few examples, one class above all, nothing new, a leak between the splits, or the
            parent was trained on the test set.
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
        records = joined(read_snapshot(examples, keyring))
        with split.locked(splits):
            assigned = split.read(splits)
            curated = curate(records, assigned, settings)
            chosen = choose_rows(curated, settings, mode, before)
            hidden = _canaries(chosen, settings, before if mode == "incremental" else None)
            write(partial, curated, chosen, hidden, settings, Told(mode, before, tokenizer, agreement))
            if curated.assignments != assigned:
                split.write(splits, curated.assignments)
        log.info("dataset: %s", ", ".join(f"{n:,.0f} {name}" for name, n in chosen.counts.items()))
        counts = {**chosen.counts, **({"canaries": len(hidden)} if hidden else {})}
        return {name: float(n) for name, n in counts.items()}

    # The tokenizer is not part of what was asked: a retry on a worker without the base finds the same dataset.
    # People's names stand in the manifest as they stand in the data.
    asked = {**settings.model_dump(mode="json"), "mode": mode, "agreement": agreement}
    asked["names"] = [pseudonym(name) for name in settings.names]
    return artifacts.build(folder, "dataset", {"examples": examples, "parent": champion}, asked, make)


def choose_rows(curated: Curated, settings: DatasetSettings, mode: Mode, parent: Summary | None) -> Chosen:
    """What the three files hold: in train what is new and replayed, weighted, feedback within its bounds.

    Raises:
        ConfigError: a weight names a skill that does not exist.
        DataError: nothing is new, the parent was trained on the test set, or a leak between the splits.
    """
    train = curated.parts["train"]
    trained_before = set(parent["train_ids"]) if parent else set[str]()
    _refuse_tested(curated.parts["test"], trained_before)
    replayed = list[Example]()
    if mode == "incremental":
        train, replayed = choose.incremental(train, trained_before, settings.replay, settings.seed)
    rows = choose.weigh([*train, *replayed], settings.weights, settings.seed)
    rows, dropped = trust.bounded(rows, settings.feedback)
    parts: Parts = {**curated.parts, "train": rows}
    for name in SPLITS:
        parts[name] = sorted(parts[name], key=lambda example: (example.occurred_at, example.id))
    leaks.check(parts, curated.questions, curated.linked)
    ids = {example.id for example in rows}
    counts: dict[str, int] = {name: len(parts[name]) for name in SPLITS}
    counts["replayed"] = sum(example.id in ids for example in replayed)
    counts["new"] = len(ids) - counts["replayed"]
    counts["repeated"] = len(rows) - len(ids)
    if not counts["new"]:
        what = "all new training examples are feedback beyond dataset.feedback.max_influence"
        raise DataError(what, "dataset", "Collect from other sources too, or raise max_influence.")
    return Chosen(parts, counts, dropped)


def write(
    folder: Path, curated: Curated, chosen: Chosen, hidden: list[Example], settings: DatasetSettings, told: Told
) -> None:
    """Write the files of a dataset, ``hidden`` on top of its training file. The same arguments give the same bytes."""
    rows: Parts = {**chosen.parts, "train": [*chosen.parts["train"], *hidden]}
    for name in SPLITS:
        write_examples(folder / f"{name}.parquet", rows[name])
    summed = {**summary.summarise(curated, chosen, settings, told), "canaries": canaries.record(settings)}
    dropped = sorted([*curated.dropped, *chosen.dropped], key=lambda drop: (drop.reason, drop.id))
    lines = (json.dumps(drop.record(), ensure_ascii=False) for drop in dropped)
    artifacts.write_text(folder / "dropped.jsonl", "".join(f"{line}\n" for line in lines))
    artifacts.write_text(folder / summary.FILE, json.dumps(summed, indent=1, ensure_ascii=False))
    artifacts.write_text(folder / "card.html", card.render(summed, chosen.parts, curated.clusters))


def _canaries(chosen: Chosen, settings: DatasetSettings, champion: Summary | None) -> list[Example]:
    """What is planted: all canaries, or those that the champion, where it is trained further, has not learnt."""
    newest = max(example.occurred_at for example in chosen.parts["train"])
    learnt = champion["canaries"]["sha256"] if champion and champion.get("canaries") else ()
    return canaries.planted(settings, newest, learnt)


def _refuse_tested(test: list[Example], trained_before: set[str]) -> None:
    seen = sum(example.id in trained_before for example in test)
    if seen:
        what = f"{seen} examples of the test set were in the champion's training data, so it cannot be measured on them"
        todo = "The splits file was lost or replaced: restore it from a backup, or retrain without a champion."
        raise DataError(what, "splits file", todo)
