"""The example store: append-only encrypted Parquet parts, one truth per example, and sealed snapshots of it.

``<root>/source=<source>/day=<day>/part-<number>-<hash>-<data key>.parquet``. Every upsert gets the next number; of
two rows with one id the one in the higher part counts. Parts are never changed, so a list of parts with their hashes
is the store at one moment for ever. How they are encrypted is ``security.vault``'s business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from opstune.artifacts import Ref, fingerprint
from opstune.errors import ServiceDown
from opstune.examples import Example
from opstune.security.keys import Keyring
from opstune.security.vault import Part, Vault, number_of
from opstune.tables import SCHEMA, from_table, to_table

SNAPSHOT = "snapshot.json"
_LOCK_SECONDS = 600


class Upserted(NamedTuple):
    """How many examples were not there, differed, or stood there already."""

    new: int
    updated: int
    unchanged: int


class Rotated(NamedTuple):
    """The master key that wraps the store's keys now, and how many parts were encrypted for the first time."""

    master: str
    sealed: int


class ExampleStore:
    """Examples by id, the latest version counting. Several processes may write at once.

    Parts are listed and read without the lock: a part appears whole or not at all. The keys are those of ``keyring``,
    or the files under ``keys`` beside the store.
    """

    def __init__(self, root: Path, keyring: Keyring | None = None) -> None:
        self.root = root
        self._vault = Vault(root, keyring or Keyring(root.parent / "keys"))
        self._digests: dict[str, dict[str, str]] = {}
        self._indexed: set[tuple[Path, int]] = set()

    def upsert(self, examples: Iterable[Example]) -> Upserted:
        """Write what is new or changed. Of several versions of one example the last one counts.

        Raises:
            IntegrityError: the store's key is not here, or a part or ``keyring.json`` was changed.
            ServiceDown: another process kept the store locked for ten minutes.
        """
        wanted = {example.id: example for example in examples}
        with self._locked():
            changed, counts = self._compare(wanted)
            if changed:
                self._append(changed)
        return counts

    def compare(self, examples: Iterable[Example]) -> Upserted:
        """What ``upsert`` would do, without doing it."""
        return self._compare({example.id: example for example in examples})[1]

    def rotate(self) -> Rotated:
        """Let a new master key take over, and encrypt what still stands unencrypted.

        Afterwards the old master key is needed no more. Encrypted parts stay as they are, so every snapshot holds.
        A kill at any moment loses nothing; rotating again finishes what was left.

        Raises:
            ConfigError: the secret that should take over is the one in use.
            IntegrityError: the old master key is not here, or a part was changed.
            ServiceDown: another process kept the store locked for ten minutes.
        """
        with self._locked():
            keys = self._vault.rotate()
            return Rotated(keys.master, self._vault.seal_plain(keys))

    def parts(self) -> list[Path]:
        """All part files, oldest first; of the same age by path."""
        return self._vault.parts()

    def listing(self) -> list[Part]:
        """Every part with its hash and rows: what a snapshot seals."""
        return [self._vault.describe(path) for path in self.parts()]

    def read(
        self,
        *,
        sources: Collection[str] | None = None,
        skills: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> list[Example]:
        """The latest version of every example, by time and id; of these sources and skills and since then, where asked.

        Raises:
            IntegrityError: names a part that changed, or whose key is not here.
        """
        return _examples(self.table(SCHEMA.names, sources=sources, skills=skills, since=since))

    def table(
        self,
        columns: Sequence[str],
        *,
        sources: Collection[str] | None = None,
        skills: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> pa.Table:
        """As ``read``, but only these columns, in no order. A time without a zone is UTC.

        Opened are the parts of these sources and days. Of other days only those that were written later than the
        oldest part wanted, and of them only the ids: they may hold a later version that moved to an earlier day.
        A part without a wanted skill is left after its ids and skills (an id has one skill for ever).

        Raises:
            IntegrityError: names a part that changed, or whose key is not here.
        """
        if since:
            since = since.replace(tzinfo=UTC) if since.tzinfo is None else since.astimezone(UTC)
        parts = [path for path in self.parts() if sources is None or _field(path.parents[1]) in sources]
        wanted = {path for path in parts if since is None or _field(path.parent) >= since.date().isoformat()}
        oldest = min((number_of(path) for path in wanted), default=0)
        opened = [path for path in parts if path in wanted or number_of(path) > oldest]
        needed = list(dict.fromkeys([*columns, "id", "skill", "occurred_at"]))

        def rows(path: Path) -> pa.Table:
            if path not in wanted:
                return self._vault.read(path, ["id"])
            if skills is not None and not set(skills) & set(self._vault.read(path, ["skill"])["skill"].to_pylist()):
                return SCHEMA.empty_table().select(needed)
            return self._vault.read(path, needed)

        found = _latest(((rows(path), path in wanted) for path in opened), needed)
        if since:
            found = found.filter(pc.greater_equal(found["occurred_at"], pa.scalar(since, found["occurred_at"].type)))
        if skills is not None:
            found = found.filter(pc.is_in(found["skill"], pa.array(list(skills), pa.string())))
        return found.select(columns)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.root / ".lock", timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise ServiceDown(
                "the example store is locked by another process", str(self.root), "Let it finish."
            ) from error

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
            fresh = [path for path in self._vault.parts(source) if _slot(path) not in self._indexed]
            for path in fresh:
                table = self._vault.read(path, ["id", "digest"])
                known.update(zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True))
                self._indexed.add(_slot(path))

    def _append(self, changed: Sequence[tuple[Example, str]]) -> None:
        keys = self._vault.ensure_keys()
        number = max((number_of(path) for path in self.parts()), default=0) + 1
        ordered = sorted(changed, key=lambda row: (_place(row[0]), row[0].occurred_at, row[0].id))
        for place, rows in groupby(ordered, key=lambda row: _place(row[0])):
            batch = list(rows)
            digests = {example.id: digest for example, digest in batch}
            table = to_table(example for example, _ in batch)
            table = table.append_column("digest", pa.array(digests.values()))
            path = self._vault.write(keys, place, number, table)
            self._digests[batch[0][0].source].update(digests)
            self._indexed.add(_slot(path))


def read_snapshot(ref: Ref, keyring: Keyring | None = None) -> list[Example]:
    """The examples of a snapshot that ``collect`` sealed, by time and id, each in its latest version.

    Raises:
        IntegrityError: a part is missing or changed since, or its key is not here; names the file.
    """
    snapshot = json.loads((ref.path / SNAPSHOT).read_text())
    root = Path(os.path.normpath(ref.path / snapshot["store"]))
    vault = Vault(root, keyring or Keyring(root.parent / "keys"))
    parts = sorted((Part(**part) for part in snapshot["parts"]), key=lambda part: number_of(Path(part.path)))
    tables = ((vault.read_as(part, SCHEMA.names), True) for part in parts)
    return _examples(_latest(tables, SCHEMA.names))


def _latest(tables: Iterable[tuple[pa.Table, bool]], columns: Sequence[str]) -> pa.Table:
    """The last row of every id, from tables in the order of their numbers.

    A table that is not wanted only takes away: what it holds is a later version of a row before it.
    """
    latest: dict[str, int] = {}
    wanted, rows = [SCHEMA.empty_table().select(columns)], 0
    for table, counts in tables:
        ids = table["id"].to_pylist()
        if counts:
            latest.update(zip(ids, range(rows, rows + len(ids)), strict=True))
            wanted.append(table)
            rows += len(ids)
        else:
            for row_id in ids:
                latest.pop(row_id, None)
    return pa.concat_tables(wanted).take(pa.array(sorted(latest.values()), pa.int64()))


def _examples(table: pa.Table) -> list[Example]:
    return from_table(table.sort_by([("occurred_at", "ascending"), ("id", "ascending")]))


def _field(folder: Path) -> str:
    """``source=incidents`` → ``incidents``."""
    return folder.name.partition("=")[2]


def _slot(path: Path) -> tuple[Path, int]:
    """What stays the same about a part when a rotation encrypts it."""
    return path.parent, number_of(path)


def _place(example: Example) -> str:
    return f"source={example.source}/day={example.occurred_at.date().isoformat()}"
