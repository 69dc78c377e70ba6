"""What Postgres is asked about itself: which transactions may still commit rows with an old watermark.

A row is stamped when its transaction writes it and seen when that commits. So a run that saw rows up to noon may
have missed one of eleven o'clock whose transaction was open at noon. Such a row's stamp is never older than its
transaction, hence the next run reads back to where the oldest transaction began that was open at this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import DataError, abc
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format
from sqlalchemy import Connection, text

from opstune.collect.source import ALWAYS

#: On a standby the clock is that of the last commit it has replayed, and sessions of the primary cannot be seen.
#: Others' transactions are hidden from a login without the right pg_read_all_stats, prepared ones from everybody.
_LOOK = text("""
SELECT coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END, now()) AS at,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next,
       (SELECT min(xact_start) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()) AS began,
       pg_is_in_recovery() OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
           OR NOT pg_has_role('pg_read_all_stats', 'USAGE') AS hidden
""")


class Mark(NamedTuple):
    """The number that the next transaction was to get at a moment."""

    next: int
    at: datetime


@dataclass(frozen=True)
class Look:
    """The transactions that were open at a moment, by the server's clock.

    ``oldest`` is the lowest number among them, ``next`` the number that the next one gets (both are the same when
    none has written), ``began`` the earliest start of those that can be seen; ``hidden`` tells that there may be
    others.
    """

    at: datetime
    oldest: int
    next: int
    began: datetime | None
    hidden: bool


def look(connection: Connection) -> Look:
    """Ask in a transaction of its own, which must end before the snapshot to be read is taken: a transaction that
    ends in between is seen in both."""
    found = connection.execute(_LOOK).mappings().one()
    connection.rollback()
    return Look(**found)


def read_back(seen: Look, marks: Iterable[Mark]) -> tuple[datetime, list[Mark]]:
    """How far back the run after this one must read, and the marks to keep until then.

    A transaction that is hidden got its number after the latest mark that is not beyond it, and so began to write
    after that. (It may have begun, without writing, before: that far the overlap reaches.)
    """
    before = [mark for mark in marks if mark.next <= seen.oldest]
    kept = [*before[-1:], *(mark for mark in marks if mark.next > seen.oldest), Mark(seen.next, seen.at)]
    moments = [seen.at, *([seen.began] if seen.began else [])]
    if seen.hidden and seen.oldest < seen.next:
        moments.append(before[-1].at if before else ALWAYS)
    return min(moments), kept


def keep_what_python_cannot_hold(adapters: AdaptersMap) -> None:
    """Give such values as text (``infinity``, year 20000, 24:00, a number of 5,000 digits in JSON): one of them must
    not end the reading."""
    for name in ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb"):
        exact = adapters.get_loader(adapters.types[name].oid, Format.TEXT)
        if exact:
            adapters.register_loader(name, _lenient(exact))


def _lenient(exact: type[abc.Loader]) -> type[Loader]:
    class Lenient(Loader):
        def __init__(self, oid: int, context: abc.AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._exact = exact(oid, context)

        def load(self, data: abc.Buffer) -> Any:
            try:
                return self._exact.load(data)
            except (DataError, ValueError, OverflowError, RecursionError):
                return bytes(data).decode()

    return Lenient
