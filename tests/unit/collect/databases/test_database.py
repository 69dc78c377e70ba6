from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from collecting import RULES, Place
from sqlalchemy.exc import OperationalError

from opstune.collect import Quarantine, pulling
from opstune.collect.databases import queries, sql
from opstune.collect.databases.postgres import Look, Mark, read_back
from opstune.collect.databases.queries import read_from
from opstune.collect.mapping import load
from opstune.collect.source import ALWAYS, Reached
from opstune.errors import ConfigError, ServiceDown
from opstune.settings import CollectSettings, Patience

DATABASE: dict[str, Any] = {
    **RULES,
    "kind": "database",
    "connection": "opstune_database",
    "read": {
        "query": """
            SELECT i.*, t.name AS team FROM incidents i LEFT JOIN teams t ON t.id = i.team_id
            WHERE i.updated_at >= :since;
        """,
        "watermark": "updated_at",
    },
    "context": {"title": "title", "team": {"from": "team", "optional": True}},
}


IMPATIENT = CollectSettings(patience=Patience(attempts=1, timeout_seconds=0.05))
AT = datetime(2026, 1, 20, 12, tzinfo=UTC)


def before(minutes: int) -> datetime:
    return AT - timedelta(minutes=minutes)


class Table:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.run("CREATE TABLE teams (id INTEGER, name TEXT)")
        self.run("INSERT INTO teams VALUES (1, 'red')")
        columns = "id TEXT PRIMARY KEY, at TEXT, title TEXT, level TEXT, team_id INTEGER, updated_at TEXT"
        self.run(f"CREATE TABLE incidents ({columns})")

    def run(self, sql: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(sql, values)

    def put(self, number: int, updated: str, title: str = "t", level: str = "high", at: str | None = None) -> None:
        row = (f"I-{number}", at or updated, title, level, number % 2, updated)
        self.run("INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?)", *row)


@pytest.fixture
def table(place: Place) -> Table:
    place.rules(DATABASE)
    path = place.home / "oncall.db"
    place.connections["opstune_database"] = f"sqlite:///{path}"
    return Table(path)


def test_joined_rows_become_examples_and_a_second_run_adds_nothing(place: Place, table: Table) -> None:
    for number in range(4):
        table.put(number, f"2026-01-0{number + 1} 10:00:00")
    first, second = place.pull(), place.pull()
    assert (first.new, first.watermark) == (4, "2026-01-04T10:00:00+00:00")
    assert (second.new, second.updated, second.unchanged) == (0, 0, 1)
    assert [example.context.get("team") for example in place.examples()] == [None, "red", None, "red"]


def test_a_row_committed_late_is_found_within_the_overlap(place: Place, table: Table) -> None:
    table.put(1, "2026-01-05 10:00:00")
    place.pull()
    table.put(2, "2026-01-05 09:20:00")
    table.put(3, "2026-01-05 08:50:00")
    assert place.pull().new == 1
    assert {example.source_id for example in place.examples()} == {"I-1", "I-2"}


def test_a_changed_row_updates_its_example(place: Place, table: Table) -> None:
    table.put(1, "2026-01-05 10:00:00")
    place.pull()
    table.put(1, "2026-01-09 10:00:00", title="after the review", at="2026-01-05 10:00:00")
    assert place.pull().updated == 1
    assert place.examples()[0].context["title"] == "after the review"


def test_a_row_repaired_at_the_source_leaves_the_quarantine(place: Place, table: Table) -> None:
    table.put(1, "2026-01-05 10:00:00", level="purple")
    table.put(2, "2026-01-05 10:00:00")
    assert place.pull().standing == 1
    table.put(1, "2026-01-07 10:00:00")
    report = place.pull()
    assert (report.new, report.standing) == (1, 0)


def test_a_refused_row_out_of_the_overlap_stays_in_quarantine(place: Place, table: Table) -> None:
    table.put(1, "2026-01-05 10:00:00", level="purple")
    table.put(2, "2026-01-09 10:00:00")
    assert place.pull().quarantined == 1
    report = place.pull()
    assert (report.quarantined, report.standing) == (0, 1)
    entry = Quarantine(place.store, "history").entries()[0]
    assert entry.origin == "row I-1" and '"level": "purple"' in entry.raw


@pytest.mark.parametrize("wrong", ["one fine day", "2199-01-01 00:00:00"])
def test_a_row_whose_watermark_is_no_moment_of_the_past_is_refused(place: Place, table: Table, wrong: str) -> None:
    table.put(1, "2026-01-05 10:00:00")
    table.put(2, wrong, at="2026-01-05 10:00:00")
    report = place.pull()
    assert (report.new, report.quarantined, report.watermark) == (1, 1, "2026-01-05T10:00:00+00:00")


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        ("sqlite:////nowhere/oncall.db", ConfigError, "/nowhere/oncall.db is missing"),
        ("not a url", ConfigError, "no database URL"),
        ("carrier+pigeon://x", ConfigError, "no database URL"),
        ("postgresql+psycopg://opstune:hunter2@127.0.0.1:1/oncall", ServiceDown, "does not answer"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_without_its_password(
    place: Place, table: Table, url: str, error: type[Exception], told: str
) -> None:
    place.connections["opstune_database"] = url
    place.settings = IMPATIENT
    with pytest.raises(error, match=told) as caught:
        place.pull()
    assert "hunter2" not in str(caught.value)


def test_a_query_that_cannot_work_is_the_source_files_fault(place: Place, table: Table) -> None:
    place.rules(
        {**DATABASE, "read": {"query": "SELECT * FROM accidents WHERE updated_at >= :since", "watermark": "updated_at"}}
    )
    with pytest.raises(ConfigError, match=r"no such table: accidents.*Correct the query"):
        place.pull()


def test_a_locked_database_is_an_outage(place: Place, table: Table) -> None:
    table.put(1, "2026-01-05 10:00:00")
    place.settings = IMPATIENT
    with closing(sqlite3.connect(table.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceDown, match="locked"):
            place.pull()


def test_what_is_written_during_a_run_belongs_to_the_next(place: Place, table: Table) -> None:
    table.run("PRAGMA journal_mode = WAL")
    table.put(1, "2026-01-05 10:00:00")
    reader = pulling._reader(load("history"), place.settings, place.connection, place.home)
    reader.newest(lambda record: None)
    table.put(2, "2026-01-05 10:00:00")
    assert [raw.record["id"] for raw in reader.read({}, ALWAYS)] == ["I-1"]


def test_a_run_gives_places_to_go_on_from_in_the_order_of_the_watermark(
    place: Place, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    for number in (3, 1, 4, 2):
        table.put(number, f"2026-01-0{number} 10:00:00")
    reader = pulling._reader(load("history"), place.settings, place.connection, place.home)
    given = list(reader.read({}, ALWAYS))
    assert [one.position["highest"][:10] if isinstance(one, Reached) else one.origin for one in given] == [
        "row I-1",
        "row I-2",
        "2026-01-02",
        "row I-3",
        "row I-4",
        "2026-01-04",
    ]


def test_text_in_a_wrong_encoding_does_not_end_the_reading(place: Place, table: Table) -> None:
    table.run("INSERT INTO incidents VALUES ('I-1', ?, CAST(x'ff6f' AS TEXT), 'high', 1, ?)", *["2026-01-05"] * 2)
    table.put(2, "2026-01-05 10:00:00")
    assert place.pull().new == 2
    assert place.examples()[0].context["title"] == "\ufffdo"


def test_a_query_cannot_write(place: Place, table: Table) -> None:
    table.put(1, "2026-01-05 10:00:00")
    opened, _ = sql.Database("history", place.connection("opstune_database"), Patience()).begin()
    with closing(opened), pytest.raises(OperationalError, match="readonly"):
        opened.exec_driver_sql("DELETE FROM incidents")


@pytest.mark.parametrize(
    ("seen", "marks", "back", "kept"),
    [
        pytest.param(Look(AT, 70, 70, None, False), [], AT, [Mark(70, AT)], id="nothing is open"),
        pytest.param(Look(AT, 60, 70, before(9), False), [], before(9), [Mark(70, AT)], id="its start is seen"),
        pytest.param(Look(AT, 60, 70, None, True), [], ALWAYS, [Mark(70, AT)], id="hidden, and never looked before"),
        pytest.param(
            Look(AT, 60, 70, None, True),
            [Mark(40, before(30)), Mark(60, before(20)), Mark(65, before(10))],
            before(20),
            [Mark(60, before(20)), Mark(65, before(10)), Mark(70, AT)],
            id="hidden, begun after the mark that it does not reach",
        ),
        pytest.param(
            Look(AT, 70, 70, None, True),
            [Mark(40, before(30)), Mark(60, before(20))],
            AT,
            [Mark(60, before(20)), Mark(70, AT)],
            id="hidden, but nothing is open",
        ),
        pytest.param(
            Look(AT, 5, 7, None, True),
            [Mark(60, before(20))],
            ALWAYS,
            [Mark(60, before(20)), Mark(7, AT)],
            id="restored",
        ),
        pytest.param(
            Look(AT, 60, 70, before(40), True), [Mark(60, before(20))], before(40), [Mark(60, before(20)), Mark(70, AT)]
        ),
    ],
)
def test_the_next_run_reads_back_to_the_oldest_open_transaction(
    seen: Look, marks: list[Mark], back: datetime, kept: list[Mark]
) -> None:
    assert read_back(seen, marks) == (back, kept)


@pytest.mark.parametrize(
    ("position", "since"),
    [
        ({}, before(999)),
        ({"back": before(5).isoformat()}, before(999)),
        ({"highest": before(9).isoformat()}, before(69)),
        ({"highest": before(9).isoformat(), "back": before(5).isoformat()}, before(69)),
        ({"highest": before(9).isoformat(), "back": before(99).isoformat()}, before(159)),
        ({"highest": before(9).isoformat(), "back": ALWAYS.isoformat()}, before(999)),
        ({"highest": before(980).isoformat()}, before(999)),
    ],
)
def test_a_run_begins_an_overlap_before_what_was_read_and_what_was_open(
    position: dict[str, Any], since: datetime
) -> None:
    assert read_from(position, before(999), timedelta(minutes=60)) == since
