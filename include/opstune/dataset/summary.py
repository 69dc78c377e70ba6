"""dataset.json: what a dataset holds, where it came from, what was left out, and what was ever trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from opstune.dataset import choose, leaks, lengths, trust
from opstune.dataset.choose import Parts
from opstune.dataset.curate import EXACT, NEAR, Curated
from opstune.dataset.lengths import Tokenizer
from opstune.dataset.split import SPLITS
from opstune.dataset.validate import Drop
from opstune.errors import IntegrityError
from opstune.examples import Example
from opstune.settings import DatasetSettings, Mode

FILE = "dataset.json"
Summary = dict[str, Any]
#: Annotation project → items, annotators, measure, value, and the line that the value must reach.
Agreement = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Chosen:
    """What is written: the rows of each file, how many of which kind, and what was left out last."""

    parts: Parts
    counts: dict[str, int]
    dropped: list[Drop]


@dataclass(frozen=True)
class Told:
    """What the summary says besides the examples: how it was asked for, and what others found."""

    mode: Mode
    parent: Summary | None = None
    tokenizer: Tokenizer | None = None
    agreement: Agreement | None = None


def read(folder: Path) -> Summary:
    """The summary of a finished dataset.

    Raises:
        IntegrityError: there is none, or it lists no ``train_ids``.
    """
    path = folder / FILE
    try:
        found: Summary = json.loads(path.read_text())
        found["train_ids"]
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(f"{path} cannot be read as a dataset", str(folder), "Build the dataset again.") from error
    return found


def summarise(curated: Curated, chosen: Chosen, settings: DatasetSettings, told: Told) -> Summary:
    """What a person or a later stage asks about a dataset, as JSON; no clock, no path: same inputs, same bytes."""
    rows = chosen.parts["train"]
    written: Parts = {**chosen.parts, "train": list({example.id: example for example in rows}.values())}
    every = [example for split in SPLITS for example in written[split]]
    texts = lengths.by_skill(every)
    times = [example.occurred_at for example in every]
    trained = {example.id for example in rows}
    if told.mode == "incremental" and told.parent:
        trained |= set(told.parent["train_ids"])
    dropped = [*curated.dropped, *chosen.dropped]
    sizes = curated.component_sizes
    return {
        "mode": told.mode,
        "seed": settings.seed,
        "counts": dict(chosen.counts),
        "size": {
            "usable": sum(len(examples) for examples in curated.parts.values()),
            **{name: getattr(settings, name) for name in ("minimum", "target", "maximum")},
            "sampling": choose.SAMPLING,
        },
        "splits": {
            split: {
                "examples": len(written[split]),
                "groups": len({example.group_id for example in written[split]}),
                "skills": choose.classes(written[split]),
            }
            for split in SPLITS
        },
        "weights": _weights(rows, settings),
        "period": {"first": min(times).isoformat(), "last": max(times).isoformat()},
        "weeks": _weeks(written),
        "read": sum(read.records for read in curated.read.values()),
        "sources": _sources(curated),
        "drops": _drops(dropped),
        "duplicates": _duplicates(curated),
        "components": {"count": len(sizes), "examples": sum(sizes), "largest": sizes[0]},
        "leaks": {
            "run": leaks.RUN,
            "limit": leaks.LIMIT,
            "dropped": sum(drop.reason in leaks.REASONS for drop in dropped),
        },
        "scrubbed": {"examples": curated.scrubbed.examples, "kinds": dict(sorted(curated.scrubbed.kinds.items()))},
        "feedback": trust.influence(rows, settings.feedback),
        "agreement": {name: dict(found) for name, found in sorted((told.agreement or {}).items())},
        "lengths": lengths.in_words(texts),
        "tokens": _tokens(texts, told.tokenizer, settings.seed),
        "parent": told.parent and _change(written, told.parent),
        "not_repeated": len(curated.parts["train"]) - len(written["train"]),
        "train_ids": sorted(trained),
    }


def _sources(curated: Curated) -> dict[str, dict[str, Any]]:
    """What each source gave and what was kept; the age is how far its newest record is behind the newest of all."""
    kept = Counter(example.source for examples in curated.parts.values() for example in examples)
    newest = max(read.newest for read in curated.read.values())
    return {
        name: {
            "read": read.records,
            "kept": kept[name],
            "newest": read.newest.isoformat(),
            "age_days": round((newest - read.newest) / timedelta(days=1), 1),
        }
        for name, read in curated.read.items()
    }


def _duplicates(curated: Curated) -> dict[str, Any]:
    reasons = Counter(drop.reason for drop in curated.dropped)
    clusters = [{"kept": c.kept[0], "dropped": [id for id, _ in c.dropped]} for c in curated.clusters]
    return {"exact": reasons[EXACT], "near": reasons[NEAR], "clusters": clusters}


def _weights(rows: Sequence[Example], settings: DatasetSettings) -> list[dict[str, Any]]:
    """Of every configured weight: the training examples it is for, and the rows that they became."""
    found = []
    for key, factor in sorted(settings.weights.items()):
        hit = [row for row in rows if key in (row.skill, f"{row.skill}/{choose.label(row)}")]
        found.append({"of": key, "factor": factor, "examples": len({row.id for row in hit}), "rows": len(hit)})
    return found


def _tokens(texts: Mapping[str, Sequence[str]], tokenizer: Tokenizer | None, seed: int) -> dict[str, Any] | None:
    if tokenizer is None:
        return None
    return {"tokenizer": tokenizer.record(), "skills": lengths.in_tokens(texts, tokenizer, seed)}


def _drops(dropped: Sequence[Drop]) -> list[dict[str, Any]]:
    """One entry a reason, the commonest first; the records themselves are in dropped.jsonl."""
    skills: dict[str, Counter[str]] = {}
    for drop in dropped:
        skills.setdefault(drop.reason, Counter())[drop.skill] += 1
    order = sorted(skills.items(), key=lambda item: (-item[1].total(), item[0]))
    return [{"reason": reason, "count": by.total(), "skills": dict(sorted(by.items()))} for reason, by in order]


def _weeks(written: Parts) -> list[dict[str, Any]]:
    """Examples by ISO week and split, oldest first."""
    found: dict[str, Counter[str]] = {}
    for split in SPLITS:
        for example in written[split]:
            year, week, _ = example.occurred_at.isocalendar()
            found.setdefault(f"{year}-W{week:02d}", Counter())[split] += 1
    return [{"week": week, **{split: by[split] for split in SPLITS}} for week, by in sorted(found.items())]


def _change(written: Parts, parent: Summary) -> dict[str, Any]:
    """Against the parent: examples by split and skill, what it was trained on already, and what it did not know."""

    def counts(skill: str) -> dict[str, int]:
        now = sum(example.skill == skill for example in written["train"])
        return {"before": sum(parent["splits"]["train"]["skills"].get(skill, {}).values()), "now": now}

    parts = parent["splits"].values()
    known = {(skill, name) for part in parts for skill, names in part["skills"].items() for name in names}
    every = [example for part in written.values() for example in part]
    now = {(skill, name) for skill, names in choose.classes(every).items() for name in names}
    trained_before = set(parent["train_ids"])
    return {
        "mode": parent["mode"],
        "last": parent["period"]["last"],
        "splits": {
            split: {"before": parent["splits"][split]["examples"], "now": len(written[split])} for split in SPLITS
        },
        "skills": {skill: counts(skill) for skill in sorted({skill for skill, _ in now | known})},
        "new_classes": [f"{skill}: {name}" for skill, name in sorted(now - known)],
        "gone_classes": [f"{skill}: {name}" for skill, name in sorted(known - now)],
        "new_sources": sorted({example.source for example in every} - set(parent["sources"])),
        "seen": sum(example.id in trained_before for example in written["train"]),
    }
