"""Components, and which side of the split each stands on, for ever.

A component is what must not be torn apart: examples of one incident, and their duplicates. The splits
file remembers every example and group that was ever placed. What was in test stays in test; an
example that was trained on and then turns out to belong with the test set is left out of both.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from opstune.artifacts import atomic_path
from opstune.errors import IntegrityError, ServiceDown
from opstune.examples import Example
from opstune.settings import SplitShares

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
#: Another build of the same home takes seconds; one that holds the file this long hangs.
_PATIENCE_SECONDS = 600

_SCHEMA = pa.schema([("kind", pa.string()), ("key", pa.string()), ("split", pa.string())])


@dataclass
class Assignments:
    """Where examples (by id) and groups (by group id) were placed before."""

    examples: dict[str, Split] = field(default_factory=dict)
    groups: dict[str, Split] = field(default_factory=dict)

    def of(self, example: Example) -> Split | None:
        return self.examples.get(example.id) or self.groups.get(example.group_id)

    def forget(self, ids: Iterable[str]) -> None:
        """Drop the memory of single examples, as if they were never placed; their groups stay."""
        for id in ids:
            self.examples.pop(id, None)


@dataclass
class Placed:
    """``splits``: one per example, none where the example is left out. ``component``: one number per example."""

    splits: list[Split | None]
    component: list[int]
    assignments: Assignments


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the splits file, so that of two builds that overlap the second sees what the first placed.

    Raises:
        ServiceDown: another build held it for ten minutes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=_PATIENCE_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        todo = "See whether another dataset build hangs, end it, and run this one again."
        raise ServiceDown("another dataset build holds the splits file", str(path), todo) from error
    try:
        yield
    finally:
        lock.release()


def read(path: Path) -> Assignments:
    """The assignments so far; none when there is no file yet.

    Raises:
        IntegrityError: the file cannot be read or says what no build writes.
    """
    if not path.exists():
        return Assignments()
    try:
        rows = pq.read_table(path, schema=_SCHEMA, page_checksum_verification=True).to_pylist()
        tables: dict[str, dict[str, Split]] = {"example": {}, "group": {}}
        for row in rows:
            tables[row["kind"]][row["key"]] = SPLITS[SPLITS.index(row["split"])]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        todo = "Restore it from a backup: without it, examples that were trained on can end up in the test set."
        raise IntegrityError(f"{path} is damaged", "the memory of which example is in which split", todo) from error
    return Assignments(tables["example"], tables["group"])


def write(path: Path, assignments: Assignments) -> None:
    """Write all assignments, whole or not at all, with a checksum a page."""
    rows = [
        {"kind": kind, "key": key, "split": split}
        for kind, table in (("example", assignments.examples), ("group", assignments.groups))
        for key, split in sorted(table.items())
    ]
    with atomic_path(path) as partial:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=_SCHEMA), partial, compression="zstd", write_page_checksum=True
        )


def components(group_ids: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The number of each example's component: linked by one group id, or by a pair, at any remove."""
    first: dict[str, int] = {}
    links = [(first.setdefault(group, position), position) for position, group in enumerate(group_ids)]
    edges = np.array([*links, *pairs], dtype=np.int64).reshape(-1, 2)
    size = len(group_ids)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    return [int(label) for label in labels]


def place(
    examples: Sequence[Example], pairs: Sequence[tuple[int, int]], before: Assignments, shares: SplitShares, seed: int
) -> Placed:
    """Place every example by its component.

    Unseen components fall by a hash of their smallest group id, so that nothing else in the history
    moves them (see ``draw``). A seen component keeps the strongest split it was ever given: test, then
    validation, then train. In one that now joins several, examples placed there before stay, validation
    moves up to test, and train examples are left out of everything, with what is new there: models have
    been trained on them, so they may not be tested, and they are too close to the test set to be trained
    on again.
    """
    numbers = components([example.group_id for example in examples], pairs)
    members: dict[int, list[Example]] = {}
    for number, example in zip(numbers, examples, strict=True):
        members.setdefault(number, []).append(example)
    known = {number: _known(of, before) for number, of in members.items()}
    strongest = {number: max(splits, key=SPLITS.index) for number, splits in known.items() if splits}
    unseen = [
        (_position(min(example.group_id for example in of), seed), number, len(of))
        for number, of in members.items()
        if number not in strongest
    ]
    standing = Counter(
        {split: sum(len(members[n]) for n, side in strongest.items() if side == split) for split in SPLITS}
    )
    strongest |= draw(unseen, standing, shares)
    after = Assignments(dict(before.examples), dict(before.groups))
    splits: list[Split | None] = []
    for number, example in zip(numbers, examples, strict=True):
        side = strongest[number]
        trained = side != "train" and "train" in known[number]
        if trained and before.of(example) in (None, "train"):
            splits.append(None)
            continue
        splits.append(side)
        after.examples[example.id] = side
        if not trained:
            after.groups[example.group_id] = side
    return Placed(splits, numbers, after)


def draw(
    unseen: Sequence[tuple[float, int, int]], standing: Mapping[Split, int], shares: SplitShares
) -> dict[int, Split]:
    """The splits of unseen components, each given as (position from 0 to 1, number, examples).

    A component is in test when its position is below test's share, in validation below both, whatever
    else there is. Only where that leaves a split with less than half or more than half again of its
    share, as happens with few components of uneven size, the bound moves to come as near as it can.
    """
    total = sum(size for _, _, size in unseen) + sum(standing.values())
    whole = shares.train + shares.validation + shares.test
    rest, drawn, bound = sorted(unseen), dict[int, Split](), 0.0
    held_out: list[tuple[Split, float]] = [("test", shares.test / whole), ("validation", shares.validation / whole)]
    for split, share in held_out:
        bound += share
        wanted = share * total - standing[split]
        sums = [0, *accumulate(size for _, _, size in rest)]
        cut = sum(position < bound for position, _, _ in rest)
        if abs(sums[cut] - wanted) > share * total / 2:
            cut = min(range(len(sums)), key=lambda n: (abs(sums[n] - wanted), n))
        drawn |= dict.fromkeys((number for _, number, _ in rest[:cut]), split)
        rest = rest[cut:]
    return drawn | dict.fromkeys((number for _, number, _ in rest), "train")


def _known(examples: Sequence[Example], before: Assignments) -> set[Split]:
    """Every split that an example of a component, or its group, was given before."""
    by_id = {before.examples.get(example.id) for example in examples}
    by_group = {before.groups.get(example.group_id) for example in examples}
    return {split for split in by_id | by_group if split}


def _position(key: str, seed: int) -> float:
    """A key's place between 0 and 1: the first 8 bytes of its seeded sha256."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64
