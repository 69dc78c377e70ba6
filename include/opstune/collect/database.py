"""Source ``database``: an SQL query through SQLAlchemy, streamed, from a watermark with an overlap."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import field_validator
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from opstune.artifacts import fingerprint
from opstune.collect.rules import moment
from opstune.collect.source import ALWAYS, Kind, Opening, Raw
from opstune.errors import ConfigError, OpstuneError, ServiceDown
from opstune.settings import Section

_BATCH = 1000


class DatabaseOptions(Section):
    """``query`` is SQL with ``:since``, the watermark less the overlap; ``watermark`` the query's column that grows
    with every change."""

    query: str
    watermark: str

    @field_validator("query")
    @classmethod
    def _asks_for_changes(cls, query: str) -> str:
        if ":since" not in query:
            raise ValueError("the query does not ask for changes: compare the watermark column with :since")
        return query


class DatabaseReader:
    """Rows of ``query`` whose ``watermark`` column passed ``:since``.

    A row that was committed late carries an older watermark than what was read, so each read begins
    ``overlap`` before the last one's end; the store's upsert keeps what was there.
    """

    def __init__(
        self,
        source: str,
        url: str,
        query: str,
        watermark: str,
        overlap: timedelta,
        name: Callable[[Mapping[str, Any]], str | None],
    ) -> None:
        self.source = source
        self.query = query.strip().rstrip(";")
        self.watermark = watermark
        self.overlap = overlap
        self._name = name
        self._engine = _engine(source, url)
        self._highest: datetime | None = None

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """The highest watermark that is not in the future; ``happened`` would need every row."""
        query = f"SELECT max({self.watermark}) FROM ({self.query}) AS changes WHERE {self.watermark} <= :now"
        bound = {"since": self._since(ALWAYS), "now": self._since(datetime.now(UTC))}
        with self._connected() as connection:
            found = connection.execute(text(query), bound).scalar()
        return _watermark(found)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw]:
        last = _watermark(position.get("highest"))
        self._highest = last
        since = max(floor, last - self.overlap) if last else floor
        with self._connected() as connection:
            streamed = connection.execution_options(stream_results=True, yield_per=_BATCH)
            for row in streamed.execute(text(self.query), {"since": self._since(since)}).mappings():
                record = dict(row)
                found = _watermark(record.get(self.watermark))
                if found and (self._highest is None or found > self._highest):
                    self._highest = found
                name = self._name(record) or fingerprint(record)[:16]
                fault = "" if found else f"{self.watermark}: {record.get(self.watermark)!r} is no time of the past"
                yield Raw("", f"row {name}", record, fault)

    def reached(self) -> dict[str, Any]:
        return {"highest": self._highest.isoformat()} if self._highest else {}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    def _since(self, since: datetime) -> Any:
        """SQLite keeps times as text; the space sorts before ISO's T, so at worst a day is read again.

        (strftime does not pad years before 1000.)
        """
        return f"{since:%Y-%m-%d %H:%M:%S}".zfill(19) if self._engine.dialect.name == "sqlite" else since

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        where = f"{self.source}, {self._engine.url.render_as_string(hide_password=True)}"
        try:
            with self._engine.connect() as connection:
                if self._engine.dialect.name == "postgresql":
                    connection.exec_driver_sql("SET TIME ZONE 'UTC'")
                yield connection
        except SQLAlchemyError as error:
            raise _translated(error, where) from error


def _engine(source: str, url: str) -> Engine:
    todo = f"Correct the connection of {source}."
    try:
        parsed = make_url(url)
        engine = create_engine(parsed)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        kind = type(error).__name__
        raise ConfigError(f"the connection is no database URL that opstune can open ({kind})", source, todo) from error
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if file and file != ":memory:" and not Path(file).is_file():
        raise ConfigError(f"{file} is missing", source, todo)
    return engine


def _translated(error: SQLAlchemyError, where: str) -> OpstuneError:
    """A query that cannot work is the mapping's fault; the rest is the service's."""
    told = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
    outage = isinstance(error, OperationalError) and not told.startswith(("no such", "near "))
    if outage or getattr(error, "connection_invalidated", False):
        return ServiceDown(
            f"the database does not answer: {told}", where, "Check that it runs; the next run goes on from here."
        )
    return ConfigError(f"the query fails: {told}", where, "Correct the query in the source file.")


def _watermark(value: Any) -> datetime | None:
    """A watermark in UTC, none if it is no time of the past; a clock that is ahead does not reach beyond now."""
    now = datetime.now(UTC)
    try:
        return min(moment(value, now), now)
    except ValueError:
        return None


def _open(options: DatabaseOptions, opening: Opening) -> DatabaseReader:
    url = opening.connection.url.get_secret_value() if opening.connection else ""
    overlap = timedelta(minutes=opening.settings.overlap_minutes)
    return DatabaseReader(opening.source, url, options.query, options.watermark, overlap, opening.name)


KIND = Kind(DatabaseOptions, _open)
