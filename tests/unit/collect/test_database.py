from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from collecting import RULES, Place

from opstune.collect import Quarantine
from opstune.errors import ConfigError, ServiceDown

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
    place.connections["opstune_database"] += "?timeout=0.05"
    with closing(sqlite3.connect(table.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceDown, match="locked"):
            place.pull()
