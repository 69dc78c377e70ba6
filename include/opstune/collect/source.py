"""What a kind of source is: how raw records are read from it, and how far it has been read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

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


class Reader(Protocol):
    """Reads one source. Adding a kind of source is a file with a reader and a line in ``readers.py``."""

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """The moment of the newest record: what the first collection counts its days back from.

        Raises:
            ServiceDown: the system does not answer.
            ConfigError: what the source file names is not there.
        """
        ...

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw]:
        """Records that are new or changed since ``position``; all from ``floor`` on when it is empty."""
        ...

    def reached(self) -> dict[str, Any]:
        """The position after everything that ``read`` gave, once it is exhausted."""
        ...

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        """The files that were read anew, and all files of the source."""
        ...
