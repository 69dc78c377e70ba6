"""What goes wrong between a Postgres and a run: each row says which error it is, what it tells, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import PASSWORD, Postgres, running, short_folder
from query_place import QueryPlace
from tcp_proxy import TcpProxy

from opstune.collect import Quarantine, watermark
from opstune.errors import AccessDenied, ConfigError, OpstuneError, ServiceDown

NOON = datetime(2026, 1, 20, 12, tzinfo=UTC)
QUERY = "SELECT id, at, title, level, updated_at FROM incidents WHERE updated_at >= :since"


@dataclass
class Case:
    """A place to collect into, the server, and a proxy before it."""

    place: QueryPlace
    server: Postgres
    proxy: TcpProxy


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with short_folder() as folder, running(folder / "primary") as server:
        yield server


@pytest.fixture
def case(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    server.run(
        """DROP TABLE IF EXISTS incidents;
        CREATE TABLE incidents (id text PRIMARY KEY, at timestamptz, title text, level text, updated_at timestamptz)"""
    )
    put(server, 1)
    place = QueryPlace(tmp_path, monkeypatch, "database", QUERY)
    place.patience(timeout_seconds=0.3)
    with TcpProxy(server.port) as proxy:
        place.connect(server.url(port=proxy.port))
        yield Case(place, server, proxy)


def put(server: Postgres, number: int, **changes: Any) -> None:
    row = {"id": f"I-{number}", "at": NOON, "title": "t", "level": "high", "updated_at": NOON, **changes}
    server.run("INSERT INTO incidents VALUES (%s, %s, %s, %s, %s)", *row.values())


@contextmanager
def wrong_password(case: Case) -> Iterator[None]:
    case.place.connect(case.server.url(password="not-it-at-all"))
    yield
    case.place.connect(case.server.url())


@contextmanager
def missing_database(case: Case) -> Iterator[None]:
    case.place.connect(case.server.url(database="nowhere"))
    yield
    case.place.connect(case.server.url())


@contextmanager
def missing_right(case: Case) -> Iterator[None]:
    case.server.run("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 's'")
    case.place.connect(case.server.url("stranger", "s"))
    yield
    case.server.run("GRANT SELECT ON incidents TO stranger")


def query(sql: str) -> Callable[[Case], AbstractContextManager[None]]:
    @contextmanager
    def asked(case: Case) -> Iterator[None]:
        case.place.rules(read={"query": sql})
        yield
        case.place.rules()

    return asked


@contextmanager
def locked_table(case: Case) -> Iterator[None]:
    with case.server.connect() as other:
        other.execute("LOCK TABLE incidents")
        yield


@contextmanager
def nobody_listens(case: Case) -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        case.place.connect(case.server.url(port=free.getsockname()[1]))
        yield
    case.place.connect(case.server.url())


@contextmanager
def no_answer(case: Case) -> Iterator[None]:
    case.proxy.hang = True
    yield
    case.proxy.hang = False


@contextmanager
def always_refused(case: Case) -> Iterator[None]:
    case.proxy.refuse = 99
    yield
    case.proxy.refuse = 0


@contextmanager
def half_an_answer(case: Case) -> Iterator[None]:
    case.server.run(
        "INSERT INTO incidents SELECT 'R-' || n, %s, repeat('x', 200), 'low', %s FROM generate_series(1, 5000) AS n",
        NOON,
        NOON,
    )
    case.proxy.cut_after = 300_000
    yield
    case.proxy.cut_after = None


@contextmanager
def killed_backend(case: Case) -> Iterator[None]:
    """The server ends the reader's session at the third fetch."""
    case.server.run(
        """CREATE OR REPLACE FUNCTION fatal(n int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN
            IF n = 2500 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN n;
        END $$"""
    )
    series = f"""SELECT 'R-' || fatal(n) AS id, timestamptz '{NOON.isoformat()}' AS at, 't' AS title, 'low' AS level,
        timestamptz '{NOON.isoformat()}' + n * interval '1 second' AS updated_at FROM generate_series(1, 5000) AS n
        WHERE timestamptz '{NOON.isoformat()}' >= :since"""
    case.place.rules(read={"query": series})
    case.place.patience(timeout_seconds=10)
    yield
    case.place.rules()


@dataclass(frozen=True)
class Fault:
    """``after`` is how many examples are there once the fault is over."""

    name: str
    when: Callable[[Case], AbstractContextManager[None]]
    error: type[OpstuneError]
    told: str
    after: int = 1

    def __str__(self) -> str:
        return self.name


FAULTS = [
    Fault("wrong password", wrong_password, AccessDenied, "refuses access.*Correct the login"),
    Fault("missing database", missing_database, ConfigError, 'no such database.*"nowhere".*Correct the connection'),
    Fault("missing right", missing_right, AccessDenied, "permission denied for table incidents"),
    Fault(
        "missing table",
        query("SELECT * FROM accidents WHERE updated_at >= :since"),
        ConfigError,
        '"accidents" does not exist.*Correct the query',
    ),
    Fault(
        "missing column",
        query("SELECT colour, updated_at FROM incidents WHERE updated_at >= :since"),
        ConfigError,
        '"colour" does not exist',
    ),
    Fault("broken SQL", query("SELEC 1 WHERE :since"), ConfigError, "syntax error"),
    Fault(
        "wrong type in the query",
        query("SELECT title::int AS n, updated_at FROM incidents WHERE updated_at >= :since"),
        ConfigError,
        'invalid input syntax for type integer: "t"',
    ),
    Fault("a lock that stays", locked_table, ServiceDown, r"statement timeout.*patience\.timeout_seconds \(0\.3\)"),
    Fault(
        "a query that takes too long",
        query("SELECT *, pg_sleep(2) FROM incidents WHERE updated_at >= :since"),
        ServiceDown,
        "statement timeout.*index",
    ),
    Fault("nobody listens", nobody_listens, ServiceDown, "does not answer: .*refused.*next run"),
    Fault("connections that are closed at once", always_refused, ServiceDown, "closed the connection"),
    Fault("no answer", no_answer, ServiceDown, "does not answer: .*timeout"),
    Fault("half an answer", half_an_answer, ServiceDown, "does not answer: .*closed", 5001),
    Fault("a session that is killed", killed_backend, ServiceDown, "does not answer: .*terminat"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_told_and_nothing_is_lost(case: Case, fault: Fault) -> None:
    with fault.when(case):
        with pytest.raises(fault.error, match=fault.told) as caught:
            case.place.pull()
        found = case.place.check()
        assert watermark.load(case.place.store, "history") is None
    assert PASSWORD not in str(caught.value) and "not-it-at-all" not in str(caught.value)
    assert (found.problem, found.reachable) == (str(caught.value), fault.error is not ServiceDown)
    assert found.authorised is (False if fault.error is AccessDenied else None)
    case.place.patience(timeout_seconds=20)
    assert case.place.pull().new == fault.after
    assert case.place.pull().new == 0


def test_a_database_that_comes_back_after_two_refused_connections_is_read(case: Case) -> None:
    case.place.patience(attempts=3)
    case.proxy.refuse = 2
    assert (case.place.pull().new, case.proxy.connections) == (1, 3)


def test_a_fault_after_a_good_run_leaves_its_watermark(case: Case) -> None:
    case.place.pull()
    mark = watermark.load(case.place.store, "history")
    put(case.server, 2)
    with wrong_password(case), pytest.raises(AccessDenied):
        case.place.pull()
    assert watermark.load(case.place.store, "history") == mark
    assert case.place.pull().new == 1


def test_an_empty_table_is_no_fault(case: Case) -> None:
    case.server.run("TRUNCATE incidents")
    report = case.place.pull()
    assert (report.read, report.new, report.problem) == (0, 0, "")
    put(case.server, 1)
    assert case.place.pull().new == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"title": None}, "title is missing"),
        ({"level": "purple"}, "'purple' is not in the lookup"),
        ({"at": None}, "at is missing"),
        ({"updated_at": "infinity"}, "'infinity' is no time of the past"),
    ],
)
def test_a_row_of_wrong_values_is_refused_and_the_others_are_read(
    case: Case, changes: dict[str, Any], told: str
) -> None:
    put(case.server, 2, **changes)
    report = case.place.pull()
    assert (report.new, report.quarantined) == (1, 1)
    assert told in Quarantine(case.place.store, "history").entries()[0].reason


def test_a_clock_that_is_an_hour_ahead_hides_nothing(case: Case) -> None:
    put(case.server, 2, updated_at=datetime.now(UTC) + timedelta(hours=1))
    assert case.place.pull().new == 2
    put(case.server, 3, updated_at=datetime.now(UTC) - timedelta(minutes=50))
    assert case.place.pull().new == 1
