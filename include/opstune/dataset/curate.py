"""The pure core of the dataset stage: records in, examples in their splits out, with all that was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from opstune.dataset import choose, duplicates, leaks, scrub, split, trust, validate
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
class Read:
    """What a source gave: how many records, and when the newest of them happened."""

    records: int
    newest: datetime


@dataclass(frozen=True)
class Curated:
    """Examples in their splits, with everything that happened on the way.

    ``linked``: ids of pairs that are too alike for two sides, kept or not. ``questions``: what leaks are looked for in.
    """

    parts: Parts
    read: dict[str, Read]
    dropped: list[Drop]
    scrubbed: scrub.Scrubbed
    clusters: list[Cluster]
    component_sizes: list[int]
    linked: list[tuple[str, str]]
    questions: leaks.Questions
    assignments: Assignments


def curate(records: Sequence[Example], assigned: Assignments, settings: DatasetSettings) -> Curated:
    """Validate, scrub, deduplicate, split, decontaminate and cap, given where examples were placed before.

    Raises:
        ConfigError: a configured skill does not exist.
        DataError: too few examples, or one class above all.
    """
    clean, dropped, scrubbed = _usable(records, assigned, settings)
    texts = [duplicates.text_of(example) for example in clean]
    found = duplicates.find(texts, settings.near_duplicate_threshold, settings.seed, settings.linked_threshold)
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
    questions = leaks.Questions(example for name in SPLITS for example in parts[name])
    leaking = leaks.decontaminate(parts, questions, assigned)
    # What was left out stands nowhere: remembered in test, a duplicate of earlier date would take its place next time.
    out = {clean[position].id for position in (*found.exact, *found.near)}
    out |= {drop.id for drop in leaking if drop.reason == leaks.CONTAINED}
    placed.assignments.forget(out - assigned.examples.keys())
    capped = choose.cap(parts, settings.maximum, settings.caps)
    parts["train"], unbounded = trust.bounded(parts["train"], settings.feedback)
    choose.check(parts, settings)
    clusters = [
        Cluster((clean[kept].id, texts[kept]), [(clean[other].id, texts[other]) for other in near])
        for kept, near in found.clusters().items()
    ]
    return Curated(
        parts=parts,
        read=_read(records),
        dropped=[*dropped, *leaking, *capped, *unbounded],
        scrubbed=scrubbed,
        clusters=clusters,
        component_sizes=sorted(Counter(placed.component).values(), reverse=True),
        linked=[(clean[left].id, clean[right].id) for left, right in found.pairs],
        questions=questions,
        assignments=placed.assignments,
    )


def _usable(
    records: Sequence[Example], assigned: Assignments, settings: DatasetSettings
) -> tuple[list[Example], list[Drop], scrub.Scrubbed]:
    """The examples that may teach, scrubbed, in order of precedence, and the others with reasons."""
    tested = {id for id, side in assigned.examples.items() if side == "test"}
    valid, dropped = validate.usable(records, settings.skills)
    clean, scrubbed = scrub.scrub(valid, settings.names)
    clean, unreachable = validate.reachable(clean)
    moment = trust.newest(records, settings.feedback)
    clean, untrusted = trust.admitted(clean, settings.feedback, moment, tested)
    clean, overruled = validate.settled(clean, tested)
    told = scrub.Scrubber(settings.names)
    dropped = [replace(drop, source_id=told.text(drop.source_id), detail=told.text(drop.detail)) for drop in dropped]
    # Of two alike the one in test stays, so that the test set never shrinks; else what a person has
    # validated, what stood there before, the earliest.
    clean.sort(
        key=lambda e: (e.id not in tested, not e.human_validated, e.id not in assigned.examples, e.occurred_at, e.id)
    )
    return clean, [*dropped, *unreachable, *untrusted, *overruled], scrubbed


def _read(records: Sequence[Example]) -> dict[str, Read]:
    times: dict[str, list[datetime]] = {}
    for record in records:
        times.setdefault(record.source, []).append(record.occurred_at)
    return {source: Read(len(found), max(found)) for source, found in sorted(times.items())}
