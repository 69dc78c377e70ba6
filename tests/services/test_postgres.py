"""Incidents out of a real Postgres: all of them, also those whose transactions take long, and none twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from postgres import Postgres, running, short_folder
from query_place import QueryPlace

from opstune.collect import Quarantine, watermark
from opstune.collect.databases import queries
from opstune.errors import OpstuneError
from opstune.store import ExampleStore, Upserted

ROWS = 200_000
NOON = datetime(2026, 1, 20, 12, tzinfo=UTC)
QUERY = "SELECT id, at, title, level, updated_at FROM incidents WHERE updated_at >= :since -- changes"
TABLE = """
DROP TABLE IF EXISTS incidents;
CREATE TABLE incidents (id text PRIMARY KEY, at timestamptz, title text, level text, updated_at timestamptz)
"""
PUT = "INSERT INTO incidents VALUES (%s, %s, %s, 'high', %s)"
LATE = "INSERT INTO incidents SELECT 'I-late', now(), 'took long', 'high', now()"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with short_folder() as folder, running(folder / "primary") as server:
        yield server


@pytest.fixture
def place(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueryPlace:
    server.run(TABLE)
    place = QueryPlace(tmp_path, monkeypatch, "database", QUERY)
    place.connect(server.url())
    return place


def put(server: Postgres, number: int, updated: datetime, title: str = "t") -> None:
    server.run(PUT, f"I-{number}", updated, title, updated)


def fill(server: Postgres, rows: int) -> None:
    """One row a second, the last one a second before noon."""
    server.run(
        f"""INSERT INTO incidents SELECT 'I-' || n, t, 'incident ' || n || repeat(' words', 40), 'high', t
        FROM (SELECT n, timestamptz '{NOON.isoformat()}' - n * interval '1 second' AS t
              FROM generate_series(1, {rows}) AS n) AS times"""
    )


def test_two_hundred_thousand_rows_arrive_and_a_second_pull_brings_nothing(place: QueryPlace, server: Postgres) -> None:
    fill(server, ROWS)
    first, second = place.pull(), place.pull()
    assert (first.read, first.new, first.quarantined) == (ROWS, ROWS, 0)
    assert (second.new, second.updated, second.quarantined) == (0, 0, 0)
    assert second.read <= place.settings.overlap_minutes * 60 + 1
    assert len(place.ids()) == ROWS


MEASURED = """
import resource, sys
from pathlib import Path
from opstune.collect.databases import database
from opstune.collect.source import ALWAYS, Opening
from opstune.settings import CollectSettings, Connection
options = database.KIND.options(query=sys.argv[2], watermark="updated_at")
opening = Opening("history", Connection(url=sys.argv[1]), None, CollectSettings(), Path(), lambda record: "")
reader = database.KIND.open(options, opening)
given = reader.read({}, ALWAYS)
next(given)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = 1 + sum(1 for one in given if hasattr(one, "origin"))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_rows_are_streamed_memory_stays_flat(place: QueryPlace, server: Postgres) -> None:
    fill(server, ROWS)
    done = subprocess.run([sys.executable, "-c", MEASURED, server.url(), QUERY], capture_output=True, text=True)
    rows, grown = map(int, done.stdout.split())
    assert rows == ROWS and grown < 20, f"{grown} MB for {rows} rows {done.stderr[-500:]}"


def test_a_run_sees_the_table_at_one_moment(place: QueryPlace, server: Postgres) -> None:
    put(server, 1, NOON)
    reader = place.reader()
    assert reader.newest(lambda record: None) == NOON
    put(server, 2, NOON)
    given = reader.read({}, NOON - timedelta(days=1))
    assert [raw.record["id"] for raw in given] == ["I-1"]
    assert place.pull().new == 2


@pytest.mark.parametrize("login", ["keeper", "reader"])
def test_a_transaction_that_commits_after_the_run_is_found_however_long_ago_it_began(
    place: QueryPlace, server: Postgres, login: str
) -> None:
    """``reader`` may not see when transactions of others began."""
    if login == "reader":
        server.run("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'r'")
        server.run("GRANT SELECT ON incidents TO reader")
        place.connect(server.url("reader", "r"))
    place.settings = place.settings.model_copy(update={"overlap_minutes": 0})
    put(server, 0, NOON)
    place.pull()
    with server.connect() as slow:
        slow.execute(LATE)
        put(server, 1, datetime.now(UTC))
        assert place.pull().new == 1
        put(server, 2, datetime.now(UTC))
        assert place.pull().new == 1
    report = place.pull()
    assert report.new == 1 and "I-late" in place.ids()
    assert place.pull().read <= 2


def test_a_prepared_transaction_is_found_once_it_commits(place: QueryPlace, server: Postgres) -> None:
    place.settings = place.settings.model_copy(update={"overlap_minutes": 0})
    put(server, 0, NOON)
    place.pull()
    with server.connect(autocommit=True) as slow:
        slow.execute("BEGIN")
        slow.execute(PUT, ("I-late", NOON, "two phases", datetime.now(UTC)))
        slow.execute("PREPARE TRANSACTION 'late'")
    put(server, 1, datetime.now(UTC))
    assert place.pull().new == 1
    server.run("COMMIT PREPARED 'late'")
    assert place.pull().new == 1 and "I-late" in place.ids()


def test_a_late_commit_is_found_on_a_standby(place: QueryPlace, server: Postgres) -> None:
    place.settings = place.settings.model_copy(update={"overlap_minutes": 0})
    put(server, 0, NOON)
    with short_folder() as folder:
        standby = server.copy_to(folder / "standby")
        standby.start()
        try:
            place.connect(standby.url())
            caught_up(server, standby)
            place.pull()
            with server.connect() as slow:
                slow.execute(LATE)
                put(server, 1, datetime.now(UTC))
                caught_up(server, standby)
                assert place.pull().new == 1
            caught_up(server, standby)
            assert place.pull().new == 1 and "I-late" in place.ids()
        finally:
            standby.stop()


def caught_up(primary: Postgres, standby: Postgres) -> None:
    """Wait until the standby has all that the primary wrote."""
    [(written,)] = primary.run("SELECT pg_current_wal_lsn()::text")
    for _ in range(500):
        if standby.run("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written) == [(True,)]:
            return
        standby.run("SELECT pg_sleep(0.02)")
    raise AssertionError("the standby does not catch up")


def test_a_run_killed_in_the_middle_goes_on_at_its_last_page_with_what_came_late(
    place: QueryPlace, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 1000)
    place.settings = place.settings.model_copy(update={"overlap_minutes": 0})
    fill(server, 5000)
    killed_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        place.pull()
    assert len(place.ids()) == 2000
    monkeypatch.undo()
    monkeypatch.setenv("OPSTUNE_CONFIG", str(place.home.parent / "config"))
    report = place.pull()
    assert (report.read, report.new, report.unchanged) == (3001, 3000, 1)
    assert place.pull().read == 1


def killed_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    upsert, calls = ExampleStore.upsert, []

    def upserting(self: ExampleStore, examples: list[object]) -> Upserted:
        calls.append(1)
        if len(calls) == writes:
            raise KeyboardInterrupt
        return upsert(self, examples)  # type: ignore[arg-type]

    monkeypatch.setattr(ExampleStore, "upsert", upserting)


def test_a_killed_run_that_was_reading_back_does_not_skip_what_it_had_not_reached(
    place: QueryPlace, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last page of a killed run is its own place, not the highest that any run has seen."""
    place.settings = place.settings.model_copy(update={"overlap_minutes": 0})
    put(server, 0, NOON - timedelta(days=9))
    place.pull()
    with server.connect() as slow:
        slow.execute("SELECT 1")
        now = datetime.now(UTC)
        stamps = [now + n * timedelta(milliseconds=1) for n in range(1, 40)]
        slow.cursor().executemany(PUT, [(f"I-{n}", NOON, "t", stamp) for n, stamp in enumerate(stamps, 1)])
        put(server, 50, datetime.now(UTC) + timedelta(seconds=1))
        assert place.pull().new == 1
    monkeypatch.setattr(queries, "PAGE", 10)
    killed_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        place.pull()
    monkeypatch.undo()
    monkeypatch.setenv("OPSTUNE_CONFIG", str(place.home.parent / "config"))
    place.pull()
    assert len(place.ids()) == 41


def test_what_only_postgres_can_hold_becomes_an_example_or_is_refused(place: QueryPlace, server: Postgres) -> None:
    columns = "id int, at timestamptz, t time, d date, i interval, j jsonb, n numeric, a timestamp[]"
    server.run(f"DROP TABLE IF EXISTS odd; CREATE TABLE odd ({columns})")
    server.run(
        """INSERT INTO odd VALUES
        (1, '2026-01-05', '24:00', 'infinity', '100000000 years', ('{"n": ' || repeat('9', 5000) || '}')::jsonb, 'NaN',
         '{infinity}'),
        (2, 'infinity', null, '-infinity', null, null, 'Infinity', null),
        (3, '20000-01-01', null, '4000-01-01 BC', null, null, null, null),
        (4, '2026-01-06', '10:00', '2026-01-01', '1 day', '{"a": [1]}', '1.50', '{}')"""
    )
    place.rules(
        read={"query": "SELECT *, at AS updated_at, 'high' AS level, 't' AS title FROM odd WHERE at >= :since"},
        context={"title": "title", "odd": {"from": "n", "optional": True}, "j": {"from": "j", "optional": True}},
        metadata={name: {"from": name, "optional": True} for name in "tdia"},
    )
    report = place.pull()
    assert (report.read, report.new, report.quarantined) == (4, 2, 2)
    assert {entry.origin for entry in Quarantine(place.store, "history").entries()} == {"row 2", "row 3"}


def test_a_row_stamped_by_a_clock_that_is_ahead_is_kept_and_hides_nothing(place: QueryPlace, server: Postgres) -> None:
    put(server, 1, datetime.now(UTC) + timedelta(hours=1))
    assert place.pull().new == 1
    put(server, 2, datetime.now(UTC) - timedelta(minutes=1))
    assert place.pull().new == 1
    mark = watermark.load(place.store, "history")
    assert mark and mark.position["highest"] <= datetime.now(UTC).isoformat()


def test_check_counts_what_is_new_and_stores_nothing(place: QueryPlace, server: Postgres) -> None:
    fill(server, 100)
    found = place.check()
    assert (found.reachable, found.authorised, found.read, found.new) == (True, True, 100, 100)
    assert not place.examples()


@pytest.mark.parametrize(("column", "told"), [("nothing", "does not exist"), ("1/(length(id) - 3) AS x", "by zero")])
def test_an_error_leaves_no_connection_behind(place: QueryPlace, server: Postgres, column: str, told: str) -> None:
    put(server, 1, NOON)
    place.rules(read={"query": f"SELECT {column}, updated_at FROM incidents WHERE updated_at >= :since"})
    with pytest.raises(OpstuneError, match=told):
        place.pull()
    assert server.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'opstune'") == [(0,)]
