"""Incidents out of ClickHouse, through its own client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_server import ClickHouse, running
from query_place import QueryPlace

from opstune.collect import Quarantine
from opstune.collect.databases import queries
from opstune.store import ExampleStore, Upserted

ROWS = 200_000
NOON = datetime(2026, 1, 20, 12, tzinfo=UTC)
QUERY = "SELECT id, at, title, level, updated_at FROM incidents WHERE updated_at >= :since -- a time: changes"
TABLE = """
CREATE TABLE incidents
(id String, at DateTime64(3), title String, level LowCardinality(String), updated_at DateTime64(6))
ENGINE = MergeTree ORDER BY updated_at
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouse]:
    with running() as server:
        yield server


@pytest.fixture
def place(server: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueryPlace:
    server.run("DROP TABLE IF EXISTS incidents")
    server.run(TABLE)
    place = QueryPlace(tmp_path, monkeypatch, "clickhouse", QUERY)
    place.connect(server.url())
    return place


def put(server: ClickHouse, number: int, updated: datetime, title: str = "t") -> None:
    at = f"'{updated.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"
    server.run(f"INSERT INTO incidents VALUES ('I-{number}', {at}, '{title}', 'high', {at})")


def fill(server: ClickHouse, rows: int) -> None:
    """One row a second, the last one a second before noon."""
    server.run(
        f"""INSERT INTO incidents
        SELECT 'I-' || toString(number), t, 'incident ' || repeat(' words', 40), 'high', t
        FROM (SELECT number, toDateTime64('{NOON:%F %T}', 6, 'UTC') - number - 1 AS t FROM numbers({rows}))"""
    )


def test_all_rows_arrive_and_a_second_pull_brings_nothing(place: QueryPlace, server: ClickHouse) -> None:
    fill(server, 20_000)
    first, second = place.pull(), place.pull()
    assert (first.read, first.new, first.quarantined) == (20_000, 20_000, 0)
    assert (second.new, second.updated, second.quarantined) == (0, 0, 0)
    assert second.read == place.settings.overlap_minutes * 60 + 1
    assert place.examples()[-1].occurred_at == NOON - timedelta(seconds=1)


MEASURED = """
import resource, sys
from pathlib import Path
from opstune.collect.databases import clickhouse
from opstune.collect.source import ALWAYS, Opening
from opstune.settings import CollectSettings, Connection
options = clickhouse.KIND.options(query=sys.argv[2], watermark="updated_at")
opening = Opening("history", Connection(url=sys.argv[1]), None, CollectSettings(), Path(), lambda record: "")
given = clickhouse.KIND.open(options, opening).read({}, ALWAYS)
next(given)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = 1 + sum(1 for one in given if hasattr(one, "origin"))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_rows_are_streamed_block_by_block(place: QueryPlace, server: ClickHouse) -> None:
    fill(server, ROWS)
    done = subprocess.run([sys.executable, "-c", MEASURED, server.url(), QUERY], capture_output=True, text=True)
    rows, grown = map(int, done.stdout.split())
    assert rows == ROWS and grown < 50, f"{grown} MB for {rows} rows {done.stderr[-500:]}"


def test_a_row_inserted_late_is_found_within_the_overlap(place: QueryPlace, server: ClickHouse) -> None:
    put(server, 1, NOON)
    place.pull()
    put(server, 2, NOON - timedelta(minutes=40))
    put(server, 3, NOON - timedelta(minutes=70))
    assert place.pull().new == 1
    assert place.ids() == {"I-1", "I-2"}


def test_of_several_versions_of_a_row_the_newest_counts(place: QueryPlace, server: ClickHouse) -> None:
    put(server, 1, NOON, "after the review")
    put(server, 1, NOON - timedelta(days=1), "before the review")
    place.pull()
    assert [one.context["title"] for one in place.examples()] == ["after the review"]


def test_a_run_killed_in_the_middle_goes_on_at_its_last_page(
    place: QueryPlace, server: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.settings = place.settings.model_copy(update={"overlap_minutes": 0})
    fill(server, 5000)
    upsert, calls = ExampleStore.upsert, []

    def killed_at_the_third(self: ExampleStore, examples: list[object]) -> Upserted:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return upsert(self, examples)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(queries, "PAGE", 1000)
        patched.setattr(ExampleStore, "upsert", killed_at_the_third)
        place.pull()
    assert len(place.ids()) == 2000
    report = place.pull()
    assert (report.read, report.new, report.unchanged) == (3001, 3000, 1)


def test_the_first_collection_counts_its_days_from_the_newest_row_of_the_past(
    place: QueryPlace, server: ClickHouse
) -> None:
    put(server, 1, NOON)
    put(server, 2, NOON - timedelta(days=59))
    put(server, 3, NOON - timedelta(days=61))
    put(server, 4, datetime.now(UTC) + timedelta(days=40))
    report = place.pull()
    assert place.ids() == {"I-1", "I-2"}
    assert (report.new, report.quarantined, report.watermark) == (2, 1, NOON.isoformat())


def test_an_empty_table_is_no_fault_and_what_comes_later_is_read(place: QueryPlace, server: ClickHouse) -> None:
    assert (place.pull().read, place.pull().read) == (0, 0)
    put(server, 1, NOON)
    assert place.pull().new == 1


def test_times_of_any_zone_and_precision_mean_the_same_moment(place: QueryPlace, server: ClickHouse) -> None:
    server.run("DROP TABLE IF EXISTS zones")
    server.run(
        """CREATE TABLE zones (id String, a DateTime('Asia/Tokyo'), b DateTime64(9, 'America/New_York'), c Date)
        ENGINE = MergeTree ORDER BY a"""
    )
    server.run("INSERT INTO zones VALUES ('I-1', '2026-01-20 21:00:00', '2026-01-20 07:00:00', '2026-01-20')")
    for column, moment in (("a", NOON), ("b", NOON), ("c", NOON.replace(hour=0))):
        query = f"SELECT id, {column} AS at, {column} AS updated_at, 't' AS title, 'high' AS level FROM zones"
        place.rules(read={"query": f"{query} WHERE {column} >= :since"})
        place.pull()
        assert [one.occurred_at for one in place.examples()] == [moment], column


def test_what_only_clickhouse_can_hold_becomes_an_example_or_is_refused(place: QueryPlace, server: ClickHouse) -> None:
    odd = """SELECT 'I-' || toString(number) AS id, updated_at AS at, 't' AS title, 'high' AS level,
        toDateTime('2026-01-20 12:00:00', 'UTC') - number AS updated_at,
        map('a', 1, 'b', 2) AS m, [toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')] AS u, toIPv4('10.0.0.1') AS ip,
        nan AS n, toDecimal128(1.5, 9) AS d, unhex('ff6f') AS s, tuple(1, 'x') AS t, toInt256(-7) AS i, NULL AS x
        FROM numbers(3) WHERE updated_at >= :since"""
    place.rules(
        read={"query": odd},
        metadata={name: {"from": name, "optional": True} for name in ["mu", "n", "d", "s", "t", "i", "x"]},
    )
    report = place.pull()
    assert (report.read, report.new + report.quarantined) == (3, 3)
    assert all(" nan" in entry.reason.lower() for entry in Quarantine(place.store, "history").entries())


def test_check_counts_what_is_new_and_stores_nothing(place: QueryPlace, server: ClickHouse) -> None:
    fill(server, 100)
    found = place.check()
    assert (found.reachable, found.authorised, found.read, found.new) == (True, True, 100, 100)
    assert not place.examples()


def test_a_database_may_stand_in_the_url(place: QueryPlace, server: ClickHouse) -> None:
    server.run("CREATE DATABASE IF NOT EXISTS other")
    server.run("DROP TABLE IF EXISTS other.incidents")
    server.run(TABLE.replace("TABLE incidents", "TABLE other.incidents"))
    server.run("INSERT INTO other.incidents VALUES ('I-9', '2026-01-05', 't', 'high', '2026-01-05')")
    place.connect(server.url(database="other"))
    place.pull()
    assert place.ids() == {"I-9"}
