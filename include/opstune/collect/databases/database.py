"""Source ``database``: an SQL query, streamed in the order of its watermark, from one snapshot a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from opstune.collect.databases import postgres, queries
from opstune.collect.databases.postgres import Mark
from opstune.collect.databases.queries import (
    QueryOptions,
    newest_query,
    ordered_query,
    raw_row,
    read_from,
    watermark_of,
)
from opstune.collect.databases.sql import Database
from opstune.collect.source import ALWAYS, Kind, Opening, Raw, Reached
from opstune.errors import ConfigError

#: Rows that one fetch brings.
_FETCH = 1000


class DatabaseReader:
    """Rows of ``query`` from ``:since`` on.

    A row that was committed late carries an older watermark than what was read, so each read begins ``overlap``
    before the last one's end, and in Postgres before the oldest transaction that was open then; the store's upsert
    keeps what was there.
    """

    def __init__(
        self,
        database: Database,
        options: QueryOptions,
        overlap: timedelta,
        name: Callable[[Mapping[str, Any]], str | None],
    ) -> None:
        self.database = database
        self.options = options
        self.overlap = overlap
        self._name = name
        self._begun: tuple[Connection, postgres.Look | None] | None = None
        self._reached: dict[str, Any] = {}

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """The highest watermark that is not in the future; ``happened`` would need every row."""
        connection, _ = self._begin()
        column = self._column(connection)
        query = text(newest_query(self.options, f"max({column})", f"{column} <= :now"))
        bound = {"since": self._since(ALWAYS), "now": self._since(datetime.now(UTC))}
        try:
            with self.database.telling():
                return watermark_of(connection.execute(query, bound).scalar())
        except BaseException:
            self._end()
            raise

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        connection, seen = self._begin()
        query = text(ordered_query(self.options, self._column(connection)))
        bound = {"since": self._since(read_from(position, floor, self.overlap))}
        self._reached = {**position, **_looked(seen, position)}
        streamed = connection.execution_options(stream_results=True, yield_per=_FETCH)
        highest, passed = watermark_of(position.get("highest")), None
        try:
            with self.database.telling():
                for number, row in enumerate(streamed.execute(query, bound).mappings(), 1):
                    record = dict(row)
                    passed = watermark_of(record.get(self.options.watermark)) or passed
                    yield raw_row(record, self.options.watermark, self._name)
                    if number % queries.PAGE == 0 and passed:
                        yield Reached({**self._reached, "highest": passed.isoformat()})
        finally:
            self._end()
        if passed:
            self._reached["highest"] = max(passed, highest or passed).isoformat()

    def reached(self) -> dict[str, Any]:
        return self._reached if "highest" in self._reached else {}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    def _begin(self) -> tuple[Connection, postgres.Look | None]:
        """One snapshot for all that a run asks."""
        if self._begun is None:
            self._begun = self.database.begin()
        return self._begun

    def _end(self) -> None:
        if self._begun:
            self._begun[0].close()
            self._begun = None

    def _column(self, connection: Connection) -> str:
        return connection.dialect.identifier_preparer.quote(self.options.watermark)

    def _since(self, since: datetime) -> Any:
        """SQLite keeps times as text; the space sorts before ISO's T, so at worst a day is read again.

        (strftime does not pad years before 1000.)
        """
        return f"{since:%Y-%m-%d %H:%M:%S}".zfill(19) if self.database.dialect == "sqlite" else since


def _looked(seen: postgres.Look | None, position: Mapping[str, Any]) -> dict[str, Any]:
    """What the next run must know of the transactions that were open at this one."""
    if seen is None:
        return {}
    marks = [Mark(number, datetime.fromisoformat(at)) for number, at in position.get("marks", ())]
    back, kept = postgres.read_back(seen, marks)
    return {"back": back.isoformat(), "marks": [[mark.next, mark.at.isoformat()] for mark in kept]}


def _open(options: QueryOptions, opening: Opening) -> DatabaseReader:
    if opening.connection is None:
        raise ConfigError("a database needs a connection", opening.source, "Name one in its source file.")
    database = Database(opening.source, opening.connection, opening.settings.patience)
    return DatabaseReader(database, options, timedelta(minutes=opening.settings.overlap_minutes), opening.name)


KIND = Kind(QueryOptions, _open)
