"""What goes wrong between ClickHouse and a run: each row says which error it is, what it tells, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_server import PASSWORD, USER, ClickHouse, forwarding, running
from fault_server import FAULTS, Answer, Fault, FaultServer
from query_place import QueryPlace

from opstune.collect import Quarantine, watermark
from opstune.errors import AccessDenied, ConfigError, OpstuneError, OutsideError, ServiceDown, Throttled

NOON = datetime(2026, 1, 20, 12, tzinfo=UTC)
QUERY = "SELECT id, at, title, level, updated_at FROM incidents WHERE updated_at >= :since"


@dataclass
class Case:
    """A place to collect into, the server, and the faults before it."""

    place: QueryPlace
    server: ClickHouse
    faults: FaultServer


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouse]:
    with running() as server:
        yield server


@pytest.fixture
def case(server: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    server.run("DROP TABLE IF EXISTS incidents")
    server.run(
        """CREATE TABLE incidents (id String, at DateTime('UTC'), title Nullable(String), level String,
        updated_at DateTime('UTC')) ENGINE = MergeTree ORDER BY updated_at"""
    )
    put(server, 1)
    put(server, 2)
    place = QueryPlace(tmp_path, monkeypatch, "clickhouse", QUERY)
    place.patience(timeout_seconds=0.3)
    with FaultServer(forwarding(server)) as faults:
        place.connect(with_login(faults.url))
        yield Case(place, server, faults)


def with_login(url: str, password: str = PASSWORD) -> str:
    return url.replace("://", f"://{USER}:{password}@")


def put(server: ClickHouse, number: int, **changes: Any) -> None:
    row = {"title": "'t'", "level": "'high'", "at": f"'{NOON:%F %T}'", "updated_at": f"'{NOON:%F %T}'", **changes}
    values = f"'I-{number}', {row['at']}, {row['title']}, {row['level']}, {row['updated_at']}"
    server.run(f"INSERT INTO incidents VALUES ({values})")


def coded(code: int, name: str, told: str = "it went wrong", status: int = 500) -> Fault:
    """An error as ClickHouse tells it."""
    body = f"Code: {code}. DB::Exception: {told}. ({name}) (version 26.9.2.1)".encode()
    return Fault(Answer(body, status, {"X-ClickHouse-Exception-Code": str(code)}))


@dataclass(frozen=True)
class Row:
    """``after`` is how many requests are answered well before the fault: each query has three of the client's
    greeting before it, and the first one asks for the newest row."""

    name: str
    fault: Fault
    error: type[OpstuneError]
    told: str
    after: int = 0

    def __str__(self) -> str:
        return self.name


ROWS = [
    Row("401", FAULTS["401"], AccessDenied, "refuses access.*401.*Correct the login"),
    Row("403", FAULTS["403"], AccessDenied, "refuses access.*403"),
    Row("404", FAULTS["404"], ConfigError, "nothing there.*404.*address"),
    Row("429", FAULTS["429"], Throttled, "asks to slow down.*429.*next run"),
    Row("500", FAULTS["500"], ServiceDown, "does not answer.*500.*next run"),
    Row("timeout", FAULTS["timeout"], ServiceDown, "does not answer.*timed out"),
    Row("half an answer", FAULTS["half an answer"], ServiceDown, "does not answer", after=7),
    Row("half a greeting", FAULTS["half an answer"], ServiceDown, "does not answer"),
    Row("what is not ClickHouse's", FAULTS["broken JSON"], ServiceDown, "does not answer"),
    Row("rows that are not ClickHouse's", FAULTS["broken JSON"], ServiceDown, "does not answer", after=3),
    Row("wrong types", FAULTS["wrong types"], ServiceDown, "does not answer", after=3),
    Row("an empty answer", FAULTS["an empty answer"], ServiceDown, "answers with nothing at all", after=3),
    Row("wrong password", coded(516, "AUTHENTICATION_FAILED", status=403), AccessDenied, "AUTHENTICATION_FAILED"),
    Row("missing password", coded(194, "REQUIRED_PASSWORD", status=401), AccessDenied, "REQUIRED_PASSWORD"),
    Row("missing right", coded(497, "ACCESS_DENIED", "Not enough privileges"), AccessDenied, "Not enough privileges"),
    Row("a quota", coded(201, "QUOTA_EXCEEDED"), Throttled, "QUOTA_EXCEEDED.*next run"),
    Row("too many queries", coded(202, "TOO_MANY_SIMULTANEOUS_QUERIES"), Throttled, "TOO_MANY"),
    Row("a query that takes too long", coded(159, "TIMEOUT_EXCEEDED"), ServiceDown, "TIMEOUT_EXCEEDED"),
    Row("out of memory", coded(241, "MEMORY_LIMIT_EXCEEDED"), ServiceDown, "MEMORY_LIMIT_EXCEEDED"),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_fault_is_told_and_nothing_is_lost(case: Case, row: Row) -> None:
    with case.faults.failing(row.fault, after=row.after):
        with pytest.raises(row.error, match=row.told) as caught:
            case.place.pull()
        assert watermark.load(case.place.store, "history") is None
    with case.faults.failing(row.fault, after=row.after):
        found = case.place.check()
    assert PASSWORD not in str(caught.value)
    assert (type(caught.value), bool(found.problem)) == (row.error, True)
    assert found.authorised is (False if row.error is AccessDenied else None)
    case.place.patience(timeout_seconds=20)
    assert case.place.pull().new == 2
    assert case.place.pull().new == 0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT * FROM accidents WHERE updated_at >= :since", "UNKNOWN_TABLE.*Correct the query"),
        ("SELECT * FROM nowhere.incidents WHERE updated_at >= :since", "UNKNOWN_DATABASE|UNKNOWN_TABLE"),
        ("SELECT colour, updated_at FROM incidents WHERE updated_at >= :since", "UNKNOWN_IDENTIFIER"),
        ("SELEC 1 WHERE :since", "Syntax error"),
        ("SELECT toUInt8(id) AS n, updated_at FROM incidents WHERE updated_at >= :since", "CANNOT_PARSE_TEXT"),
        ("SELECT id, title AS updated_at FROM incidents WHERE level >= :since", "ILLEGAL_TYPE_OF_ARGUMENT"),
    ],
)
def test_a_query_that_cannot_work_is_the_source_files_fault(case: Case, query: str, told: str) -> None:
    case.place.rules(read={"query": query})
    case.place.patience(timeout_seconds=20)
    with pytest.raises(ConfigError, match=told):
        case.place.pull()
    assert case.place.check().reachable
    case.place.rules()
    assert case.place.pull().new == 2


def test_the_real_refusal_of_a_password_is_an_access_that_is_denied(case: Case) -> None:
    case.place.connect(case.server.url(password="not-it-at-all"))
    with pytest.raises(AccessDenied, match="Authentication failed") as caught:
        case.place.pull()
    assert "not-it-at-all" not in str(caught.value)


def test_an_empty_answer_to_the_rows_themselves_loses_none(case: Case) -> None:
    with case.faults.failing(FAULTS["an empty answer"], after=7):
        assert case.place.pull().read == 0
    assert case.place.pull().new == 2


def test_nobody_listens(case: Case) -> None:
    case.place.connect("http://127.0.0.1:1/")
    with pytest.raises(ServiceDown, match=r"does not answer.*refused.*127\.0\.0\.1:1"):
        case.place.pull()


def test_a_connection_of_another_kind_is_told(case: Case) -> None:
    case.place.connect("clickhouse://127.0.0.1:9000/")
    with pytest.raises(ConfigError, match=r"begins with clickhouse://.*HTTP interface"):
        case.place.pull()


@pytest.mark.parametrize("name", ["500", "timeout", "429"])
def test_a_server_that_comes_back_after_two_faults_is_read(case: Case, name: str) -> None:
    case.place.patience(attempts=3)
    with case.faults.failing(FAULTS[name], times=2):
        assert case.place.pull().new == 2


def test_a_fault_after_a_good_run_leaves_its_watermark(case: Case) -> None:
    case.place.pull()
    mark = watermark.load(case.place.store, "history")
    put(case.server, 3)
    with case.faults.failing(FAULTS["500"]), pytest.raises(OutsideError):
        case.place.pull()
    assert watermark.load(case.place.store, "history") == mark
    assert case.place.pull().new == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"title": "NULL"}, "title is missing"),
        ({"level": "'purple'"}, "'purple' is not in the lookup"),
        ({"updated_at": "'2100-01-01 00:00:00'"}, "is no time of the past"),
    ],
)
def test_a_row_of_wrong_values_is_refused_and_the_others_are_read(
    case: Case, changes: dict[str, Any], told: str
) -> None:
    put(case.server, 3, **changes)
    report = case.place.pull()
    assert (report.new, report.quarantined) == (2, 1)
    assert told in Quarantine(case.place.store, "history").entries()[0].reason


@pytest.mark.parametrize("name", ["a clock an hour ahead", "a clock an hour behind"])
def test_a_clock_that_is_off_hides_nothing(case: Case, name: str) -> None:
    put(case.server, 3, updated_at=f"'{datetime.now(UTC) + timedelta(hours=1):%F %T}'")
    with case.faults.failing(FAULTS[name]):
        assert case.place.pull().new == 3
        put(case.server, 4, updated_at=f"'{datetime.now(UTC) - timedelta(minutes=50):%F %T}'")
        assert case.place.pull().new == 1
