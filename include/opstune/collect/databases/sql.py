"""A database over SQLAlchemy: opened patiently and for reading only, read as it was at one moment, its faults told
apart."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from opstune import settings
from opstune.collect.databases import postgres
from opstune.collect.databases.queries import patiently
from opstune.errors import AccessDenied, ConfigError, OpstuneError, ServiceDown
from opstune.settings import Patience

#: Where a server refuses a login it says so in words only, before there is a connection that could carry a code.
_DENIED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist|permission denied"
    r"|certificate verify failed|not permitted to log in"
)
_ABSENT = re.compile(r"database .* does not exist|file is not a database|unsupported file format")
_WRONG_QUERY = re.compile(
    r"no such |near |ambiguous|misuse|wrong number of arguments|unrecognized token|incomplete input"
)
#: Postgres' codes (appendix A of its manual) for a right that is missing, and for a query that was cancelled.
_MISSING_RIGHT, _CANCELLED = ("42501", "28000", "28P01"), "57014"


class Database:
    """One database. ``name`` says in errors and logs whose and where it is, without its password."""

    def __init__(self, source: str, connection: settings.Connection, patience: Patience) -> None:
        url = _parsed(source, connection.url.get_secret_value())
        self.dialect = url.get_backend_name()
        where = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
        self.name = f"{source}, {where.render_as_string()}"
        self._patience = patience
        self._engine = _engine(source, url, connection, patience)

    def begin(self) -> tuple[Connection, postgres.Look | None]:
        """A connection on which everything is read as of one moment, and, from Postgres, what was open just before.

        Asked again with growing waits while the database does not answer.

        Raises:
            ServiceDown: it does not answer.
            AccessDenied: the login was refused.
            ConfigError: there is no such database.
        """
        return patiently(self._begin, self._patience, self.name)

    def _begin(self) -> tuple[Connection, postgres.Look | None]:
        with self.telling():
            connection = self._engine.connect()
            try:
                if self.dialect != "postgresql":
                    connection.begin()
                    return connection, None
                seen = postgres.look(connection)
                snapshot = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                for setting in _SESSION:
                    snapshot.exec_driver_sql(
                        setting.format(milliseconds=math.ceil(self._patience.timeout_seconds * 1000))
                    )
                return snapshot, seen
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Faults of the database in the block become ours."""
        try:
            yield
        except SQLAlchemyError as error:
            raise _translated(error, self.name, self._patience) from error


#: A pause for writing what was read must not end the reading, and times without a zone are in UTC.
_SESSION = (
    "SET LOCAL TIME ZONE 'UTC'",
    "SET LOCAL statement_timeout = {milliseconds}",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)


def _parsed(source: str, text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ConfigError("the connection is no database URL", source, _correct(source)) from error
    if url.get_backend_name() in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    return url


def _engine(source: str, url: URL, connection: settings.Connection, patience: Patience) -> Engine:
    kind = url.get_backend_name()
    file = url.database if kind == "sqlite" else None
    if file and file != ":memory:" and not Path(file).is_file():
        raise ConfigError(f"{file} is missing", source, _correct(source))
    asked = {"postgresql": _postgres_arguments, "sqlite": _sqlite_arguments}.get(kind, _no_arguments)
    arguments = {key: value for key, value in asked(connection, patience).items() if key not in url.query}
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        what = f"the connection is no database URL that opstune can open ({type(error).__name__})"
        raise ConfigError(what, source, _correct(source)) from error
    if kind == "postgresql":
        event.listen(engine, "connect", lambda opened, _: postgres.keep_what_python_cannot_hold(opened.adapters))
    elif kind == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN"))
    return engine


def _postgres_arguments(connection: settings.Connection, patience: Patience) -> dict[str, Any]:
    """libpq's own time limits; of a line that went dead in the middle only keepalives tell."""
    seconds = math.ceil(patience.timeout_seconds)
    arguments: dict[str, Any] = {
        "connect_timeout": seconds,
        "application_name": "opstune",
        "keepalives_idle": seconds,
        "keepalives_interval": max(seconds // 3, 1),
        "keepalives_count": 3,
        "tcp_user_timeout": seconds * 2000,
    }
    if connection.ca_file:
        arguments |= {"sslmode": "verify-full", "sslrootcert": str(connection.ca_file)}
    return arguments


def _sqlite_arguments(connection: settings.Connection, patience: Patience) -> dict[str, Any]:
    return {"timeout": patience.timeout_seconds}


def _no_arguments(connection: settings.Connection, patience: Patience) -> dict[str, Any]:
    return {}


def _prepare_sqlite(opened: sqlite3.Connection, _: object) -> None:
    """Transactions are ours to begin, nothing is written, and text in a wrong encoding does not end the reading."""
    opened.isolation_level = None
    opened.text_factory = lambda raw: raw.decode(errors="replace")
    opened.execute("PRAGMA query_only = ON")


def _translated(error: SQLAlchemyError, where: str, patience: Patience) -> OpstuneError:
    """Who must act: the one who holds the keys, the one who wrote the source file, or nobody but time."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    told = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    code = getattr(cause, "sqlstate", None) or ""
    if code in _MISSING_RIGHT or (not code and _DENIED.search(told)):
        todo = "Correct the login of its connection, or ask its owner for the right to read."
        return AccessDenied(f"the database refuses access: {told}", where, todo)
    if code.startswith("3D") or (not code and _ABSENT.search(told)):
        return ConfigError(f"there is no such database: {told}", where, "Correct the connection.")
    if code == _CANCELLED:
        todo = "Give its watermark column an index, or raise collect.patience.timeout_seconds "
        return ServiceDown(f"the database broke the query off: {told}", where, f"{todo}({patience.timeout_seconds:g}).")
    outage = isinstance(error, OperationalError) and not (not code and _WRONG_QUERY.match(told))
    if outage or getattr(error, "connection_invalidated", False):
        return ServiceDown(
            f"the database does not answer: {told}", where, "Check that it runs; the next run goes on from here."
        )
    return ConfigError(f"the query fails: {told}", where, "Correct the query in the source file.")


def _correct(source: str) -> str:
    return f"Correct the connection of {source}."
