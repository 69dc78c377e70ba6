"""What a kind of source is: its options, how raw records are read from it, and how far it has been read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from opstune.settings import CollectSettings, Connection, Section

Connections = Callable[[str], Connection | None]

#: Before every record: read all of it.
ALWAYS = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Raw:
    """One raw record, or what could not be read as one: then ``fault`` says why and ``record`` is the text.

    ``scope`` is the file, empty for a database; ``origin`` is the place in words, unique within the source.
    """

    scope: str
    origin: str
    record: Any
    fault: str = ""


@dataclass(frozen=True)
class Reached:
    """Stands between records: when all before it is stored, the next run may go on from ``position``.

    A reader that gives its records in a lasting order yields one now and then (a page, a day), so that a run
    that is killed in the middle does not begin again.
    """

    position: dict[str, Any]


@dataclass(frozen=True)
class Settled:
    """Stands between records: what came from these places was read well, though it is no record of its own. What
    stood in quarantine about it is settled."""

    origins: Collection[str]


class Reader(Protocol):
    """Reads one source."""

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """The moment of the newest record: what the first collection counts its days back from.

        Raises:
            ServiceDown: the system does not answer.
            ConfigError: what the source file names is not there.
        """
        ...

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached | Settled]:
        """Records that are new or changed since ``position``; all from ``floor`` on when it is empty."""
        ...

    def reached(self) -> dict[str, Any]:
        """The position after everything that ``read`` gave, once it is exhausted."""
        ...

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        """The files that were read anew, and all files of the source."""
        ...


@dataclass(frozen=True)
class Opening:
    """What a reader is opened with. ``connection`` is the source's own, none where its kind can do without;
    ``connections`` finds others that its options name; ``name`` is a record's own id, for the quarantine;
    ``kinds`` are all kinds, for a source that joins others."""

    source: str
    connection: Connection | None
    connections: Connections
    settings: CollectSettings
    home: Path
    name: Callable[[Mapping[str, Any]], str | None]
    kinds: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """One kind of source: the typed form of ``read`` in a source file, and how its reader is opened with it."""

    options: type[Section]
    open: Callable[[Any, Opening], Reader]
    needs_connection: bool = True
