"""The example store: append-only Parquet parts, one truth per example, and sealed snapshots of it.

``<root>/source=<source>/day=<day>/part-<n>-<hash>.parquet``. Every upsert gets the next number; of two rows
with one id the one in the higher part counts. Parts are never changed, so a list of parts with their hashes
is the store at one moment for ever.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from opstune.artifacts import Ref, atomic_path, fingerprint, sha256_file
from opstune.errors import IntegrityError, ServiceDown
from opstune.examples import Example
from opstune.tables import SCHEMA, from_table, to_table

SNAPSHOT = "snapshot.json"
_LOCK_SECONDS = 600


class Upserted(NamedTuple):
    """How many examples were not there, differed, or stood there already."""

    new: int
    updated: int
    unchanged: int


class Part(NamedTuple):
    """One file of the store, relative to its root."""

    path: str
    sha256: str
    rows: int


class ExampleStore:
    """Examples by id, the latest version counting. Several processes may write at once.

    Parts are listed and read without the lock: a part appears whole or not at all.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digests: dict[str, dict[str, str]] = {}
        self._indexed: set[Path] = set()

    def upsert(self, examples: Iterable[Example]) -> Upserted:
        """Write what is new or changed. Of several versions of one example the last one counts.

        Raises:
            ServiceDown: another process kept the store locked for ten minutes.
        """
        wanted = {example.id: example for example in examples}
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock", timeout=_LOCK_SECONDS)
        try:
            with lock:
                changed, counts = self._compare(wanted)
                self._append(changed)
        except Timeout as error:
            raise ServiceDown(
                "the example store is locked by another process", str(self.root), "Let it finish."
            ) from error
        return counts

    def compare(self, examples: Iterable[Example]) -> Upserted:
        """What ``upsert`` would do, without doing it."""
        return self._compare({example.id: example for example in examples})[1]

    def parts(self) -> list[Path]:
        """All part files, oldest first; of the same age by path."""
        return sorted(self.root.glob("source=*/day=*/part-*.parquet"), key=lambda path: (_number(path), str(path)))

    def listing(self) -> list[Part]:
        """Every part with its hash and rows: what a snapshot seals."""
        return [
            Part(str(path.relative_to(self.root)), sha256_file(path), pq.read_metadata(path).num_rows)
            for path in self.parts()
        ]

    def read(self) -> list[Example]:
        """The latest version of every example, by time and id."""
        return _latest(self.parts())

    def _compare(self, wanted: dict[str, Example]) -> tuple[list[tuple[Example, str]], Upserted]:
        self._index({example.source for example in wanted.values()})
        changed, new, updated = [], 0, 0
        for example in wanted.values():
            digest = fingerprint(example.model_dump(mode="json"))
            standing = self._digests[example.source].get(example.id)
            if standing != digest:
                new, updated = (new + 1, updated) if standing is None else (new, updated + 1)
                changed.append((example, digest))
        return changed, Upserted(new, updated, len(wanted) - new - updated)

    def _index(self, sources: Iterable[str]) -> None:
        """Learn the digests in parts that were written since the last look."""
        for source in sources:
            known = self._digests.setdefault(source, {})
            parts = self.root.glob(f"source={source}/day=*/part-*.parquet")
            for path in sorted(set(parts) - self._indexed, key=_number):
                table = pq.ParquetFile(path).read(columns=["id", "digest"])
                known.update(zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True))
                self._indexed.add(path)

    def _append(self, changed: Sequence[tuple[Example, str]]) -> None:
        number = max((_number(path) for path in self.parts()), default=0) + 1
        ordered = sorted(changed, key=lambda row: (_place(row[0]), row[0].occurred_at, row[0].id))
        for place, rows in groupby(ordered, key=lambda row: _place(row[0])):
            batch = list(rows)
            table = to_table(example for example, _ in batch)
            path = _write_part(
                self.root / place, number, table.append_column("digest", pa.array([digest for _, digest in batch]))
            )
            self._digests[batch[0][0].source].update({example.id: digest for example, digest in batch})
            self._indexed.add(path)


def read_snapshot(ref: Ref) -> list[Example]:
    """The examples of a snapshot that ``collect`` sealed, by time and id, each in its latest version.

    Raises:
        IntegrityError: a part is missing or changed since; names the file.
    """
    snapshot = json.loads((ref.path / SNAPSHOT).read_text())
    root = Path(os.path.normpath(ref.path / snapshot["store"]))
    paths = []
    for part in snapshot["parts"]:
        path = root / part["path"]
        again = "Restore the file, or collect again and take a new snapshot."
        if not path.is_file():
            raise IntegrityError(f"{path} is missing", "example store", again)
        if sha256_file(path) != part["sha256"]:
            raise IntegrityError(f"{path} changed after it was written", "example store", again)
        paths.append(path)
    return _latest(sorted(paths, key=_number))


def _latest(paths: Sequence[Path]) -> list[Example]:
    if not paths:
        return []
    table = pa.concat_tables([pq.ParquetFile(path).read(columns=SCHEMA.names) for path in paths])
    rows = {row_id: index for index, row_id in enumerate(table["id"].to_pylist())}
    latest = table.take(sorted(rows.values()))
    return from_table(latest.sort_by([("occurred_at", "ascending"), ("id", "ascending")]))


def _write_part(folder: Path, number: int, table: pa.Table) -> Path:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    content = buffer.getvalue()
    path = folder / f"part-{number:06d}-{hashlib.sha256(content).hexdigest()[:12]}.parquet"
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    return path


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _place(example: Example) -> str:
    return f"source={example.source}/day={example.occurred_at:%Y-%m-%d}"
