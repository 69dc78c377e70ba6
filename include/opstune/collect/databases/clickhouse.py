"""Source ``clickhouse``: an SQL query through ClickHouse's own client, streamed block by block in the order of its
watermark."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from opstune.collect.databases import queries
from opstune.collect.databases.queries import (
    QueryOptions,
    newest_query,
    ordered_query,
    patiently,
    raw_row,
    read_from,
    watermark_of,
)
from opstune.collect.source import ALWAYS, Kind, Opening, Raw, Reached
from opstune.errors import AccessDenied, ConfigError, OpstuneError, ServiceDown, Throttled
from opstune.settings import Connection, Patience

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from clickhouse_connect.driver.common import StreamContext
    from clickhouse_connect.driver.query import QueryResult

#: What becomes ``:since`` and ``:now``; a colon in a text or a cast is none.
_PLACE = re.compile(r"(?<![:\w\\]):(since|now)\b(?!:)")
#: The earliest moment that every time type of ClickHouse can be compared with.
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
#: Server codes (ErrorCodes.cpp): a login that was refused or may not read, a server that is busy or in trouble, and
#: one that asks to slow down. The others blame the query.
_DENIED = {192, 193, 194, 497, 516}
_TROUBLE = {3, 32, 159, 209, 210, 236, 241, 242, 252, 279, 394, 425, 999, 1000, 1001, 1002}
_BUSY = {201, 202}
_STATUS = re.compile(r"HTTP status (\d{3})")
#: What the client adds to the server's words.
_WRAPPING = re.compile(r"^Received ClickHouse exception, code: \d+, server response: |\s*\(for url [^)]*\)")


class ClickHouseReader:
    """Rows of ``query`` from ``:since`` on.

    There are no transactions to wait for, but inserts are buffered and replicated: each read begins ``overlap``
    before the last one's end, and the store's upsert keeps what was there.
    """

    def __init__(
        self,
        server: Server,
        options: QueryOptions,
        overlap: timedelta,
        name: Callable[[Mapping[str, Any]], str | None],
    ) -> None:
        self.server = server
        self.options = options
        self.overlap = overlap
        self._name = name
        self._reached: dict[str, Any] = {}

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """The highest watermark that is not in the future; ``happened`` would need every row."""
        query = newest_query(self.options, f"maxOrNull({self._column})", f"{self._column} <= :now")
        with ExitStack() as stack:
            found = next(self.server.rows(query, ALWAYS, stack), None)
        if found is None:
            todo = "Check that nothing stands between; the next run goes on from here."
            raise ServiceDown("ClickHouse answers with nothing at all", self.server.name, todo)
        return watermark_of(found["newest"])

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        highest, passed = watermark_of(position.get("highest")), None
        self._reached = dict(position)
        query, since = ordered_query(self.options, self._column), read_from(position, floor, self.overlap)
        with ExitStack() as stack:
            for number, record in enumerate(self.server.rows(query, since, stack), 1):
                passed = watermark_of(record.get(self.options.watermark)) or passed
                yield raw_row(record, self.options.watermark, self._name)
                if number % queries.PAGE == 0 and passed:
                    yield Reached({"highest": passed.isoformat()})
        if passed:
            self._reached = {"highest": max(passed, highest or passed).isoformat()}

    def reached(self) -> dict[str, Any]:
        return self._reached

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    @property
    def _column(self) -> str:
        return f"`{self.options.watermark}`"


class Server:
    """One ClickHouse, asked over HTTP. The database is the URL's path, where it has one."""

    def __init__(self, source: str, connection: Connection, patience: Patience) -> None:
        parts = urlsplit(connection.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            what = f"a connection to ClickHouse begins with {parts.scheme}://"
            raise ConfigError(what, source, "Give the URL of its HTTP interface: http(s)://host:port/database.")
        self.name = f"{source}, {parts._replace(query='', fragment='').geturl()}"
        self._patience = patience
        self._secrets = [text for text in (connection.token, *(connection.login or ())[1:]) if text]
        user, password = connection.login or ("default", "")
        seconds = math.ceil(patience.timeout_seconds)
        self._arguments: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port or (8443 if parts.scheme == "https" else 8123),
            "interface": parts.scheme,
            "database": parts.path.strip("/") or None,
            "connect_timeout": seconds,
            "send_receive_timeout": seconds,
            "query_retries": 0,
            "client_name": "opstune",
            "tz_mode": "aware",
            "ca_cert": str(connection.ca_file) if connection.ca_file else None,
            f"{parts.scheme}_proxy": connection.proxy.get_secret_value() if connection.proxy else None,
            **({"access_token": connection.token} if connection.token else {"username": user, "password": password}),
        }

    def rows(self, query: str, since: datetime, stack: ExitStack) -> Iterator[dict[str, Any]]:
        """The rows of a query as records; ``stack`` closes what was opened. Asked again while there is no answer.

        Raises:
            ServiceDown: no answer, half of one, or a server in trouble.
            Throttled: too many queries at once, or a quota is used up.
            AccessDenied: the login was refused, or may not read this.
            ConfigError: the query cannot work.
        """
        stream = patiently(lambda: self._ask(query, since, stack), self._patience, self.name)
        with self._telling():
            names = cast("QueryResult", stream.source).column_names
            for block in stream:
                yield from (dict(zip(names, row, strict=True)) for row in block)

    def _ask(self, query: str, since: datetime, stack: ExitStack) -> StreamContext:
        asked = _PLACE.sub(lambda found: f"{{{found[1]}:DateTime64(6, 'UTC')}}", query)
        moments = {"since": max(since, _EARLIEST), "now": datetime.now(UTC)}
        bound = {name: f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" for name, moment in moments.items()}
        with self._telling():
            client = stack.enter_context(self._client())
            stream: StreamContext = client.query_row_block_stream(asked, parameters=bound, query_tz="UTC")
            stack.enter_context(stream)
            return stream

    def _client(self) -> Client:
        import clickhouse_connect

        return clickhouse_connect.get_client(**self._arguments)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Faults of the client in the block become ours: an answer that is not ClickHouse's, or breaks off, makes it
        fail in any way."""
        try:
            yield
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> OpstuneError:
        told = (_WRAPPING.sub("", str(error)).strip() or type(error).__name__).splitlines()[0]
        for secret in self._secrets:
            told = told.replace(secret, "***")
        code, status = getattr(error, "code", None), _STATUS.search(told)
        answer = int(status[1]) if status else 0
        if code in _DENIED or (code is None and answer in (401, 403)):
            todo = "Correct the login of its connection, or ask its owner for the right to read."
            return AccessDenied(f"ClickHouse refuses access: {told}", self.name, todo)
        if code in _BUSY or (code is None and answer == 429):
            return Throttled(f"ClickHouse asks to slow down: {told}", self.name, "The next run goes on from here.")
        if code is None and answer == 404:
            return ConfigError(f"ClickHouse has nothing there: {told}", self.name, "Correct the connection's address.")
        if code is None or code in _TROUBLE:
            todo = "Check that it runs; the next run goes on from here."
            return ServiceDown(f"ClickHouse does not answer: {told}", self.name, todo)
        return ConfigError(f"the query fails: {told}", self.name, "Correct the query in the source file.")


def _open(options: QueryOptions, opening: Opening) -> ClickHouseReader:
    if opening.connection is None:
        raise ConfigError("ClickHouse needs a connection", opening.source, "Name one in its source file.")
    server = Server(opening.source, opening.connection, opening.settings.patience)
    return ClickHouseReader(server, options, timedelta(minutes=opening.settings.overlap_minutes), opening.name)


KIND = Kind(QueryOptions, _open)
