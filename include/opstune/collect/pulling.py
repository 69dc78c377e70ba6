"""From a source into the store: read, map, keep or quarantine, and only then move the watermark."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from opstune.collect import mapping, watermark
from opstune.collect.database import DatabaseReader
from opstune.collect.files import FilesReader, root_of
from opstune.collect.mapping import Mapper
from opstune.collect.quarantine import Quarantine
from opstune.collect.source import ALWAYS, Raw, Reader
from opstune.collect.watermark import Watermark
from opstune.errors import ConfigError, DataError, OpstuneError, ServiceDown
from opstune.examples import Example
from opstune.settings import CollectSettings
from opstune.store import ExampleStore, Upserted

log = logging.getLogger(__name__)

#: Examples held in memory between two writes.
_BATCH = 10_000
#: So many refusals and not one example: the mapping is wrong, and copying the source into quarantine helps nobody.
_HOPELESS = 10_000

Connections = Callable[[str], str | None]


class SourceReport(BaseModel):
    """What one collection did. ``quarantined`` counts records refused now and not before, ``standing`` all that
    stand refused; ``passed_over`` those that the source file's ``when`` or the oldest moment leaves out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    read: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    standing: int = 0
    passed_over: int = 0
    watermark: str = ""
    seconds: float = 0.0
    off: str = ""


class SourceCheck(BaseModel):
    """What a collection would find. ``problem`` is the sentence of the error that it would end with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    kind: str
    connected: bool
    read: int = 0
    new: int = 0
    updated: int = 0
    refused: int = 0
    watermark: str = ""
    off: str = ""
    problem: str = ""


@dataclass
class _Pass:
    """One way through the records: what was counted, what waits to be written."""

    mapper: Mapper
    quarantine: Quarantine
    floor: datetime
    now: datetime
    read: int = 0
    quarantined: int = 0
    refused: int = 0
    passed_over: int = 0
    kept: Upserted = field(default_factory=lambda: Upserted(0, 0, 0))

    def examples(self, raws: Iterator[Raw]) -> Iterator[Example]:
        """The records as examples; those that cannot become one go to quarantine.

        Raises:
            DataError: nothing fits the mapping.
        """
        for raw in raws:
            self.read += 1
            try:
                example = self._example(raw)
            except DataError as error:
                self.refused += 1
                self.quarantined += self.quarantine.refuse(raw.scope, raw.origin, str(error), raw.record)
                if self.refused == self.read - self.passed_over == _HOPELESS:
                    todo = f"Correct config/sources/{self.mapper.source}.yaml. The last fault: {error}"
                    raise DataError(
                        f"none of the first {_HOPELESS} records fits the mapping", self.mapper.source, todo
                    ) from error
                continue
            if example is None or example.occurred_at < self.floor:
                self.passed_over += 1
                continue
            self.quarantine.accept(raw.origin)
            yield example

    def _example(self, raw: Raw) -> Example | None:
        if raw.fault:
            raise DataError(raw.fault, raw.origin, "Correct the record and collect again.")
        if not self.mapper.concerns(raw.record):
            return None
        return self.mapper.example(raw.record, self.now)

    def write(self, store: Callable[[list[Example]], Upserted], examples: Iterator[Example]) -> None:
        batch: list[Example] = []
        for example in examples:
            batch.append(example)
            if len(batch) == _BATCH:
                self._write(store, batch)
                batch = []
        self._write(store, batch)

    def _write(self, store: Callable[[list[Example]], Upserted], batch: list[Example]) -> None:
        if batch:
            counts = store(batch)
            self.kept = Upserted(*(old + more for old, more in zip(self.kept, counts, strict=True)))


def pull(
    source: str,
    store: Path,
    settings: CollectSettings,
    connection: Connections,
    home: Path,
    since: datetime | None = None,
) -> SourceReport:
    """Collect what is new in a source since its watermark, or since ``since``.

    Without a watermark it goes ``settings.days_back`` days back from the source's newest record. The watermark
    moves after the examples are stored: a run that is killed is repeated, and nothing is stored twice.

    Raises:
        ConfigError: the source file, its connection or its query is wrong.
        DataError: nothing in the source fits its mapping.
        ServiceDown: the source does not answer, or another process collects from it.
    """
    started = time.monotonic()
    mapper = mapping.load(source)
    if reason := _off(mapper, connection):
        return SourceReport(source=source, off=reason)
    path = watermark.path_of(store, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=1):
            run, mark, standing = _collect(mapper, store, settings, connection, home, since)
    except Timeout as error:
        raise ServiceDown("another process collects from this source", source, "Let it finish.") from error
    report = SourceReport(
        source=source,
        read=run.read,
        **run.kept._asdict(),
        quarantined=run.quarantined,
        standing=standing,
        passed_over=run.passed_over,
        watermark=_told(mark),
        seconds=round(time.monotonic() - started, 3),
    )
    log.info(
        "%s: %d read, %d new, %d updated, %d quarantined",
        source,
        run.read,
        run.kept.new,
        run.kept.updated,
        run.quarantined,
    )
    return report


def check(
    source: str,
    store: Path,
    settings: CollectSettings,
    connection: Connections,
    home: Path,
    since: datetime | None = None,
) -> SourceCheck:
    """Try a source without storing anything: is it connected, readable, and how much is new?

    Raises:
        ConfigError: the source file is wrong.
    """
    mapper = mapping.load(source)
    kind = mapper.mapping.kind
    if reason := _off(mapper, connection):
        return SourceCheck(source=source, kind=kind, connected=False, off=reason)
    try:
        reader = _reader(mapper, settings, connection, home)
        mark = _start(mapper, reader, watermark.load(store, source), settings, since)
        run = _Pass(mapper, Quarantine(store, source), mark.floor, datetime.now(UTC))
        run.write(ExampleStore(store).compare, run.examples(reader.read(mark.position, mark.floor)))
    except OpstuneError as error:
        return SourceCheck(source=source, kind=kind, connected=False, problem=str(error))
    return SourceCheck(
        source=source,
        kind=kind,
        connected=True,
        read=run.read,
        new=run.kept.new,
        updated=run.kept.updated,
        refused=run.refused,
        watermark=_told(mark),
    )


def _collect(
    mapper: Mapper, store: Path, settings: CollectSettings, connection: Connections, home: Path, since: datetime | None
) -> tuple[_Pass, Watermark, int]:
    reader = _reader(mapper, settings, connection, home)
    mark = _start(mapper, reader, watermark.load(store, mapper.source), settings, since)
    quarantine = Quarantine(store, mapper.source)
    run = _Pass(mapper, quarantine, mark.floor, datetime.now(UTC))
    run.write(ExampleStore(store).upsert, run.examples(reader.read(mark.position, mark.floor)))
    standing = quarantine.save(*reader.scopes())
    mark = mark.model_copy(update={"position": reader.reached() or mark.position})
    watermark.save(store, mapper.source, mark)
    return run, mark, standing


def _start(
    mapper: Mapper, reader: Reader, last: Watermark | None, settings: CollectSettings, since: datetime | None
) -> Watermark:
    """Where to read from: the last watermark; the floor alone after a change of the mapping or with ``since``."""
    now = datetime.now(UTC)
    if since is not None:
        since = since.replace(tzinfo=UTC) if since.tzinfo is None else since
        floor = min(since, last.floor) if last else since
        return Watermark(mapping=mapper.fingerprint, floor=floor)
    if last is None:
        newest = reader.newest(lambda record: mapper.happened(record, now))
        floor = newest - timedelta(days=settings.days_back) if newest else ALWAYS
        return Watermark(mapping=mapper.fingerprint, floor=floor)
    if last.mapping != mapper.fingerprint:
        log.info("%s: its mapping changed, so all of it is read again", mapper.source)
        return Watermark(mapping=mapper.fingerprint, floor=last.floor)
    return last


def _off(mapper: Mapper, connection: Connections) -> str:
    name = mapper.mapping.connection
    return f"there is no connection {name}" if name and not connection(name) else ""


def _reader(mapper: Mapper, settings: CollectSettings, connection: Connections, home: Path) -> Reader:
    """One line a kind of source; the mapping's validation has seen to it that nothing is missing."""
    found = mapper.mapping
    url = connection(found.connection) if found.connection else None
    if found.kind == "files":
        return FilesReader(mapper.source, root_of(url, home), found.path)
    if url and found.query and found.watermark:
        overlap = timedelta(minutes=settings.overlap_minutes)
        return DatabaseReader(mapper.source, url, found.query, found.watermark, overlap, mapper.name)
    raise ConfigError("the database source is incomplete", mapper.source, "Give connection, query and watermark.")


def _told(mark: Watermark) -> str:
    """The watermark for people: a time, or how many files were read."""
    highest = mark.position.get("highest")
    return str(highest) if highest else f"{len(mark.position)} files" if mark.position else ""
