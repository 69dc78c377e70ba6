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
from opstune.collect.kinds import KINDS
from opstune.collect.mapping import Mapper
from opstune.collect.quarantine import Quarantine
from opstune.collect.source import ALWAYS, Connections, Opening, Raw, Reached, Reader, Settled
from opstune.collect.watermark import Watermark
from opstune.errors import AccessDenied, DataError, OpstuneError, ServiceDown
from opstune.examples import Example
from opstune.security.keys import Keyring
from opstune.settings import CollectSettings
from opstune.store import ExampleStore, Upserted

log = logging.getLogger(__name__)

#: Examples held in memory between two writes.
_BATCH = 10_000
#: So many refusals and not one example: the mapping is wrong, and copying the source into quarantine helps nobody.
_HOPELESS = 10_000


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
    problem: str = ""


class SourceCheck(BaseModel):
    """What a collection would find. ``problem`` is the sentence of the error that it would end with; ``off`` says
    why nobody asked. ``authorised`` is none where the system could not be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    kind: str
    reachable: bool
    authorised: bool | None = None
    read: int = 0
    new: int = 0
    updated: int = 0
    refused: int = 0
    watermark: str = ""
    last_read: datetime | None = None
    off: str = ""
    problem: str = ""


@dataclass
class _Pass:
    """One way through the records: what was counted, what waits to be written."""

    mapper: Mapper
    quarantine: Quarantine
    floor: datetime
    now: datetime
    deadline: float
    read: int = 0
    quarantined: int = 0
    refused: int = 0
    passed_over: int = 0
    kept: Upserted = field(default_factory=lambda: Upserted(0, 0, 0))

    def examples(self, given: Iterator[Raw | Reached | Settled]) -> Iterator[Example | Reached]:
        """The records as examples; those that cannot become one go to quarantine.

        Raises:
            DataError: nothing fits the mapping.
            ServiceDown: the source takes longer than it may.
        """
        for raw in given:
            if time.monotonic() > self.deadline:
                what = f"the source takes longer than collect.time_limit_minutes; {self.read} records were read"
                raise ServiceDown(what, self.mapper.source, "The next run goes on from what is stored.")
            if isinstance(raw, Reached):
                yield raw
                continue
            if isinstance(raw, Settled):
                for origin in raw.origins:
                    self.quarantine.accept(origin)
                continue
            self.read += 1
            try:
                example = self._example(raw)
            except DataError as error:
                self._refuse(raw, error)
                continue
            if example is None or example.occurred_at < self.floor:
                self.passed_over += 1
                continue
            self.quarantine.accept(raw.origin)
            yield example

    def _refuse(self, raw: Raw, error: DataError) -> None:
        self.refused += 1
        self.quarantined += self.quarantine.refuse(raw.scope, raw.origin, str(error), raw.record)
        if self.refused == self.read - self.passed_over == _HOPELESS:
            todo = f"Correct config/sources/{self.mapper.source}.yaml. The last fault: {error}"
            raise DataError(
                f"none of the first {_HOPELESS} records fits the mapping", self.mapper.source, todo
            ) from error

    def _example(self, raw: Raw) -> Example | None:
        if raw.fault:
            raise DataError(raw.fault, raw.origin, "Correct the record and collect again.")
        if not self.mapper.concerns(raw.record):
            return None
        return self.mapper.example(raw.record, self.now)

    def write(
        self,
        store: Callable[[list[Example]], Upserted],
        examples: Iterator[Example | Reached],
        reached: Callable[[Reached], None],
    ) -> None:
        """Store the examples in batches; ``reached`` is called when all before a place to go on from is stored."""
        batch: list[Example] = []
        for example in examples:
            if isinstance(example, Reached):
                self._write(store, batch)
                batch = []
                reached(example)
                continue
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
    standing = watermark.load(store, source)
    found = SourceCheck(
        source=source,
        kind=mapper.mapping.kind,
        reachable=False,
        off=_off(mapper, connection),
        watermark=_told(standing) if standing else "",
        last_read=standing.collected_at if standing else None,
    )
    if found.off:
        return found
    try:
        reader = _reader(mapper, settings, connection, home)
        mark = _start(mapper, reader, standing, settings, since)
        run = _begin(mapper, store, mark, settings)
        records = reader.read(mark.position, mark.floor)
        run.write(_examples(store, home, connection).compare, run.examples(records), lambda _reached: None)
    except AccessDenied as error:
        return found.model_copy(update={"reachable": True, "authorised": False, "problem": str(error)})
    except OpstuneError as error:
        return found.model_copy(update={"reachable": not isinstance(error, ServiceDown), "problem": str(error)})
    counts = {"read": run.read, "new": run.kept.new, "updated": run.kept.updated, "refused": run.refused}
    return found.model_copy(update={"reachable": True, "authorised": True, **counts})


def _collect(
    mapper: Mapper, store: Path, settings: CollectSettings, connection: Connections, home: Path, since: datetime | None
) -> tuple[_Pass, Watermark, int]:
    reader = _reader(mapper, settings, connection, home)
    mark = _start(mapper, reader, watermark.load(store, mapper.source), settings, since)
    run = _begin(mapper, store, mark, settings)

    def reached(place: Reached) -> None:
        run.quarantine.save(*reader.scopes())
        watermark.save(store, mapper.source, mark.model_copy(update={"position": place.position}))

    records = reader.read(mark.position, mark.floor)
    run.write(_examples(store, home, connection).upsert, run.examples(records), reached)
    standing = run.quarantine.save(*reader.scopes())
    mark = mark.model_copy(update={"position": reader.reached() or mark.position, "collected_at": datetime.now(UTC)})
    watermark.save(store, mapper.source, mark)
    return run, mark, standing


def _examples(store: Path, home: Path, connections: Connections) -> ExampleStore:
    return ExampleStore(store, Keyring.connected(home / "keys", connections))


def _begin(mapper: Mapper, store: Path, mark: Watermark, settings: CollectSettings) -> _Pass:
    deadline = time.monotonic() + settings.time_limit_minutes * 60
    return _Pass(mapper, Quarantine(store, mapper.source), mark.floor, datetime.now(UTC), deadline)


def _start(
    mapper: Mapper, reader: Reader, last: Watermark | None, settings: CollectSettings, since: datetime | None
) -> Watermark:
    """Where to read from: the last watermark; the floor alone after a change of the mapping or with ``since``."""
    now = datetime.now(UTC)
    if since is not None:
        since = since.replace(tzinfo=UTC) if since.tzinfo is None else since
        floor = min(since, last.floor) if last else since
        return Watermark(mapping=mapper.fingerprint, floor=floor, collected_at=last and last.collected_at)
    if last is None:
        newest = reader.newest(lambda record: mapper.happened(record, now))
        floor = newest - timedelta(days=settings.days_back) if newest else ALWAYS
        return Watermark(mapping=mapper.fingerprint, floor=floor)
    if last.mapping != mapper.fingerprint:
        log.info("%s: its mapping changed, so all of it is read again", mapper.source)
        return Watermark(mapping=mapper.fingerprint, floor=last.floor, collected_at=last.collected_at)
    return last


def _off(mapper: Mapper, connection: Connections) -> str:
    name = mapper.mapping.connection
    return f"there is no connection {name}" if name and not connection(name) else ""


def _reader(mapper: Mapper, settings: CollectSettings, connections: Connections, home: Path) -> Reader:
    found = mapper.mapping
    own = connections(found.connection) if found.connection else None
    opening = Opening(mapper.source, own, connections, settings, home, mapper.name, KINDS)
    return KINDS[found.kind].open(found.read, opening)


def _told(mark: Watermark) -> str:
    """The watermark for people: a time, or how many files were read."""
    highest = mark.position.get("highest")
    return str(highest) if highest else f"{len(mark.position)} files" if mark.position else ""
