"""dataset.json: what a dataset holds, where it came from, what was left out, and what was ever trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opstune.dataset.choose import Parts, classes
from opstune.dataset.curate import EXACT, NEAR, Curated
from opstune.dataset.duplicates import text_of
from opstune.dataset.split import SPLITS
from opstune.dataset.validate import Drop
from opstune.errors import IntegrityError
from opstune.examples import Example
from opstune.settings import Mode

FILE = "dataset.json"
Summary = dict[str, Any]


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


def summarise(
    curated: Curated, written: Parts, counts: Mapping[str, int], mode: Mode, seed: int, parent: Summary | None
) -> Summary:
    """What a person or a later stage asks about a dataset, as JSON; no clock, no path: same inputs, same bytes."""
    every = [example for split in SPLITS for example in written[split]]
    times = sorted(example.occurred_at for example in every)
    trained = {example.id for example in written["train"]}
    if mode == "incremental" and parent:
        trained |= set(parent["train_ids"])
    kept_by_source = Counter(example.source for split in SPLITS for example in curated.parts[split])
    reasons = Counter(drop.reason for drop in curated.dropped)
    sizes = curated.component_sizes
    return {
        "mode": mode,
        "seed": seed,
        "counts": dict(counts),
        "splits": {
            split: {
                "examples": len(written[split]),
                "groups": len({example.group_id for example in written[split]}),
                "skills": classes(written[split]),
            }
            for split in SPLITS
        },
        "period": {"first": times[0].isoformat(), "last": times[-1].isoformat()},
        "weeks": _weeks(written),
        "read": sum(curated.read.values()),
        "sources": {name: {"read": n, "kept": kept_by_source[name]} for name, n in curated.read.items()},
        "drops": _drops(curated.dropped),
        "duplicates": {
            "exact": reasons[EXACT],
            "near": reasons[NEAR],
            "clusters": [{"kept": c.kept[0], "dropped": [id for id, _ in c.dropped]} for c in curated.clusters],
        },
        "components": {"count": len(sizes), "examples": sum(sizes), "largest": sizes[0]},
        "scrubbed": {"examples": curated.scrubbed.examples, "kinds": dict(sorted(curated.scrubbed.kinds.items()))},
        "lengths": _lengths(every),
        "parent": parent and _change(written, parent),
        "not_repeated": len(curated.parts["train"]) - len(written["train"]),
        "train_ids": sorted(trained),
    }


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


def _lengths(examples: Sequence[Example]) -> dict[str, dict[str, Any]]:
    """Words of each skill's examples, prompt and answer together: quantiles, and a histogram."""
    words: dict[str, list[int]] = {}
    for example in examples:
        words.setdefault(example.skill, []).append(len(text_of(example).split()))
    return {skill: _distribution(sorted(found)) for skill, found in sorted(words.items())}


def _distribution(values: Sequence[int], bins: int = 24) -> dict[str, Any]:
    """Of sorted values. ``histogram`` counts from ``start`` on, each step ``step`` wide."""
    start = values[0]
    step = -(-(values[-1] - start + 1) // bins)
    histogram = [0] * (-(-(values[-1] - start + 1) // step))
    for value in values:
        histogram[(value - start) // step] += 1
    quantiles = {name: values[round(q * (len(values) - 1))] for name, q in (("median", 0.5), ("p95", 0.95))}
    return {**quantiles, "max": values[-1], "start": start, "step": step, "histogram": histogram}


def _change(written: Parts, parent: Summary) -> dict[str, Any]:
    """Against the parent: examples a split, what the parent was trained on already, and classes it did not know."""
    known = {
        (skill, name) for part in parent["splits"].values() for skill, names in part["skills"].items() for name in names
    }
    now = {(skill, name) for part in written.values() for skill, names in classes(part).items() for name in names}
    trained_before = set(parent["train_ids"])
    return {
        "mode": parent["mode"],
        "last": parent["period"]["last"],
        "splits": {
            split: {"before": parent["splits"][split]["examples"], "now": len(written[split])} for split in SPLITS
        },
        "new_classes": [f"{skill}: {name}" for skill, name in sorted(now - known)],
        "seen": sum(example.id in trained_before for example in written["train"]),
    }
