"""The pure core of the dataset stage: records in, examples in their splits out, with all that was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from opstune.dataset import choose, duplicates, scrub, split, validate
from opstune.dataset.choose import Parts
from opstune.dataset.split import SPLITS, Assignments
from opstune.dataset.validate import Drop
from opstune.examples import Example
from opstune.settings import DatasetSettings

EXACT = "exact duplicate"
NEAR = "near duplicate"
LINKED = "trained on before, and now linked to the test set"


@dataclass(frozen=True)
class Cluster:
    """One example that was kept and its near duplicates that were not: (id, text) each."""

    kept: tuple[str, str]
    dropped: list[tuple[str, str]]


@dataclass(frozen=True)
class Curated:
    """Examples in their splits, with everything that happened on the way."""

    parts: Parts
    read: dict[str, int]
    dropped: list[Drop]
    scrubbed: scrub.Scrubbed
    clusters: list[Cluster]
    component_sizes: list[int]
    assignments: Assignments


def curate(records: Sequence[Example], assigned: Assignments, settings: DatasetSettings) -> Curated:
    """Validate, scrub, deduplicate, split and cap, given where examples were placed before.

    Raises:
        ConfigError: a configured skill does not exist.
        DataError: too few examples, or one class above all.
    """
    valid, dropped = validate.usable(records, settings.skills)
    clean, scrubbed = scrub.scrub(valid, settings.names)
    clean, unreachable = validate.reachable(clean)
    told = scrub.Scrubber(settings.names)
    dropped = [replace(drop, source_id=told.text(drop.source_id), detail=told.text(drop.detail)) for drop in dropped]
    dropped += unreachable
    # Of two alike the one in test stays, so that the test set never shrinks; else the earliest.
    clean.sort(key=lambda example: (assigned.examples.get(example.id) != "test", example.occurred_at, example.id))
    texts = [duplicates.text_of(example) for example in clean]
    found = duplicates.find(texts, settings.near_duplicate_threshold, settings.seed)
    placed = split.place(clean, found.pairs, assigned, settings.split, settings.seed)
    parts: Parts = {name: [] for name in SPLITS}
    for position, example in enumerate(clean):
        side = placed.splits[position]
        if position in found.exact:
            dropped.append(Drop.of(example, EXACT, clean[found.exact[position]].id))
        elif position in found.near:
            dropped.append(Drop.of(example, NEAR, clean[found.near[position]].id))
        elif side is None:
            dropped.append(Drop.of(example, LINKED))
        else:
            parts[side].append(example)
    dropped += choose.cap(parts, settings.maximum, settings.caps)
    choose.check(parts, settings)
    clusters = [
        Cluster((clean[kept].id, texts[kept]), [(clean[other].id, texts[other]) for other in near])
        for kept, near in found.clusters().items()
    ]
    sizes = sorted(Counter(placed.component).values(), reverse=True)
    read = dict(sorted(Counter(record.source for record in records).items()))
    return Curated(parts, read, dropped, scrubbed, clusters, sizes, placed.assignments)
