"""Episodes of a real Prometheus joined with what was done about them: a database, run logs, and what comes late."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alert_place import SOURCE, AlertPlace
from alert_truth import DAY, Truth, series
from prometheus_server import Series, backfill, prometheus

from opstune.collect import Quarantine, pull
from opstune.examples import Example
from opstune.settings import SimulateSettings
from opstune.simulate.history import TABLES, write_history
from opstune.store import ExampleStore

MINUTE = 60_000
ACTION = {
    "alert_id": "A-1",
    "function": "restart_pod",
    "parameters": '{"namespace": "shop", "pod": "cart-1"}',
    "outcome": "success",
    "executed_by": "ann",
}
LABELS = {"alertname": "PodStuck", "namespace": "shop", "pod": "cart-1", "severity": "page"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertPlace:
    return AlertPlace(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def began() -> int:
    """When one pod was stuck for twenty minutes: two days ago."""
    return int(time.time() * 1000) - 2 * DAY


@pytest.fixture(scope="module")
def one_pod(began: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("one_pod")
    moments = [began + minute * MINUTE for minute in range(21)]
    backfill(folder, series([Truth(LABELS, moments), Truth({**LABELS, "pod": "cart-2"}, moments)]))
    with prometheus(folder) as url:
        yield url


class Database:
    """A team's own tables, with one alert in them."""

    def __init__(self, file: Path) -> None:
        self.file, self.url = file, f"sqlite:///{file}"
        self.run(*(f"CREATE TABLE {table} ({columns})" for table, columns in TABLES.items()))
        labels = json.dumps({"namespace": "shop", "pod": "cart-1"})
        self.run(f"INSERT INTO alerts (id, incident_id, name, labels) VALUES ('A-1', 'INC-1', 'PodStuck', '{labels}')")

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.file)) as database, database:
            for statement in statements:
                database.execute(statement)

    def act(self, action_id: str, at: int, **changes: Any) -> None:
        stamp = f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S}"
        row = {**ACTION, "id": action_id, "executed_at": stamp, "updated_at": stamp, **changes}
        with closing(sqlite3.connect(self.file)) as database, database:
            columns = ", ".join(row)
            marks = ", ".join("?" * len(row))
            database.execute(
                f"INSERT OR REPLACE INTO remediation_actions ({columns}) VALUES ({marks})", list(row.values())
            )


@pytest.fixture
def database(tmp_path: Path, place: AlertPlace, one_pod: str) -> Database:
    database = Database(tmp_path / "oncall.db")
    place.connect("opstune_prometheus", one_pod)
    place.connect("opstune_database", database.url)
    return database


def of_pod(place: AlertPlace, pod: str = "cart-1") -> dict[str, Example]:
    return {one.source_id: one for one in place.examples() if one.context["labels"]["pod"] == pod}


def test_an_episode_gets_the_answer_that_the_database_knows(place: AlertPlace, database: Database, began: int) -> None:
    database.act("RA-1", began + 5 * MINUTE)
    place.pull()
    (one,) = of_pod(place).values()
    assert one.answer == {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-1"}}
    assert (one.outcome, one.group_id, one.metadata["by"]) == ("success", "INC-1", "ann")
    assert one.metadata["action"] == "remediation_actions/RA-1" and one.metadata["minutes"] == 20.0
    (other,) = of_pod(place, "cart-2").values()
    assert (other.answer, other.outcome) == ({}, "unknown") and other.group_id.startswith("PodStuck/")


def test_an_action_that_becomes_known_later_answers_the_same_example(
    place: AlertPlace, database: Database, began: int
) -> None:
    place.pull()
    (before,) = of_pod(place).values()
    assert before.answer == {}
    database.act("RA-1", began + 5 * MINUTE, updated_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    report = place.pull()
    (after,) = of_pod(place).values()
    assert (report.new, report.updated) == (0, 1)
    assert after.id == before.id and after.answer["function"] == "restart_pod"


def test_what_is_too_old_to_become_known_is_not_read_again(place: AlertPlace, database: Database, began: int) -> None:
    place.options(again_days=0.5)
    place.pull()
    database.act("RA-1", began + 5 * MINUTE)
    assert (place.pull().updated, [one.answer for one in of_pod(place).values()]) == (0, [{}])


def test_a_failed_action_is_an_example_of_its_own_and_never_the_answer(
    place: AlertPlace, database: Database, began: int
) -> None:
    database.act("RA-1", began + 3 * MINUTE, outcome="failure", function="drain_node", parameters='{"node": "n-1"}')
    place.pull()
    database.act("RA-2", began + 9 * MINUTE)
    report = place.pull()
    found = of_pod(place)
    failed = found.pop("remediation_actions/RA-1")
    (episode,) = found.values()
    assert (failed.outcome, failed.answer["function"]) == ("failure", "drain_node")
    assert (episode.outcome, episode.answer["function"]) == ("success", "restart_pod")
    assert failed.group_id == episode.group_id == "INC-1" and failed.context == episode.context
    assert (report.new, report.updated) == (0, 1)


def test_where_people_acknowledged_only_nothing_was_to_be_done(
    place: AlertPlace, database: Database, began: int
) -> None:
    database.act("RA-1", began + 3 * MINUTE, function="acknowledge", parameters="{}")
    place.pull()
    (one,) = of_pod(place).values()
    assert one.answer == {"function": "none", "parameters": {}} and one.outcome == "success"


def test_a_record_that_is_no_action_stands_in_quarantine_until_it_is_mended(
    place: AlertPlace, database: Database, began: int
) -> None:
    database.act("RA-1", began + 3 * MINUTE, parameters="{half")
    report = place.pull()
    (entry,) = Quarantine(place.store, SOURCE).entries()
    assert (report.quarantined, report.standing) == (1, 1)
    assert entry.origin == "remediation_actions: row RA-1" and "parameters" in entry.reason
    assert place.pull().quarantined == 0
    database.act("RA-1", began + 3 * MINUTE)
    report = place.pull()
    assert (report.standing, report.updated) == (0, 1)


def test_a_database_that_is_down_takes_no_answer_back(place: AlertPlace, database: Database, began: int) -> None:
    database.act("RA-1", began + 3 * MINUTE)
    place.pull()
    answered = of_pod(place)
    kept = database.file.rename(database.file.with_suffix(".away"))
    found = place.check()
    assert "oncall.db is missing" in found.problem and of_pod(place) == answered
    kept.rename(database.file)
    assert (place.pull().updated, of_pod(place)) == (0, answered)


def test_an_issue_in_words_only_helps_who_annotates(
    tmp_path: Path, place: AlertPlace, one_pod: str, began: int
) -> None:
    closed = datetime.fromtimestamp(began / 1000, UTC) + timedelta(minutes=40)
    issue = {
        "identifier": "OPS-7",
        "labels": {"pod": "cart-1"},
        "completed_at": closed.isoformat(),
        "resolution_steps": "Moved the volume by hand.",
    }
    (tmp_path / "issues.jsonl").write_text(json.dumps(issue) + "\n")
    fields = {"id": "identifier", "at": "completed_at", "labels": "labels", "notes": "resolution_steps"}
    issues = {"kind": "files", "connection": "opstune_files", "read": {"path": "issues.jsonl"}, "agree_on": ["pod"]}
    place.options(actions={"issues": {**issues, "fields": {**fields, "incident": "identifier"}}})
    place.connect("opstune_prometheus", one_pod)
    place.connect("opstune_files", str(tmp_path))
    place.pull()
    (one,) = of_pod(place).values()
    assert (one.answer, one.outcome, one.notes, one.group_id) == ({}, "unknown", "Moved the volume by hand.", "OPS-7")
    assert of_pod(place, "cart-2").popitem()[1].notes == ""


def test_a_whole_history_finds_its_actions_in_the_database_and_the_run_logs(tmp_path: Path, place: AlertPlace) -> None:
    """The generated history as Prometheus would have seen it: what the other sources teach comes out again."""
    until = datetime.now(UTC)
    out = tmp_path / "history"
    write_history(out, SimulateSettings(seed=5, days=12, incidents_per_day=10), until)
    backfill(tmp_path / "prometheus", _as_recorded(out))
    with prometheus(tmp_path / "prometheus") as url:
        place.connect("opstune_prometheus", url)
        place.connect("opstune_database", f"sqlite:///{out / 'oncall.db'}")
        place.connect("opstune_files", str(out))
        report, again = place.pull(), place.pull()
        assert (again.new, again.updated) == (0, 0)
    refused = [json.loads(entry.raw) for entry in Quarantine(place.store, SOURCE).entries()]
    found = place.examples()
    failed = {one.source_id: one for one in found if one.outcome == "failure"}
    right = [one for one in found if one.outcome == "success"]
    answered = {_alert(one.group_id, one.context["alert"], one.context["labels"]): one for one in right}
    assert len(answered) > 450 and len(failed) > 10
    for source, name in (("remediations", "remediation_actions"), ("agent_runs", "agent_runs")):
        store = tmp_path / source / "examples"
        pull(source, store, place.settings, place.connections.get, tmp_path / source)
        for taught in ExampleStore(store).read():
            key = _alert(taught.group_id, taught.context["alert"], taught.context["labels"])
            if taught.outcome == "failure":
                assert failed[f"{name}/{taught.source_id}"].answer == taught.answer
            elif key in answered:
                assert answered[key].answer == taught.answer
            else:
                assert any(_alert(one["incident"], one["alert"], one["labels"]) == key for one in refused)
    assert report.new == len(found) and len(refused) < 5


def _alert(incident: str, name: str, labels: dict[str, str]) -> str:
    named = {key: value for key, value in labels.items() if key not in ("alertname", "severity")}
    return json.dumps([incident, name, named], sort_keys=True)


def _as_recorded(history: Path) -> Iterator[Series]:
    """Every alert of the database, firing for half an hour, a sample a minute."""
    seen: dict[str, tuple[dict[str, str], set[int]]] = {}
    with closing(sqlite3.connect(history / "oncall.db")) as database:
        rows = database.execute("SELECT name, severity, labels, starts_at FROM alerts").fetchall()
    for name, severity, labels, starts_at in rows:
        try:
            own = {**json.loads(labels), "alertname": name, "severity": severity, "alertstate": "firing"}
            start = round(datetime.fromisoformat(starts_at).replace(tzinfo=UTC).timestamp() * 1000)
        except (TypeError, ValueError):
            continue
        _, moments = seen.setdefault(json.dumps(own, sort_keys=True), (own, set()))
        moments.update(start + minute * MINUTE for minute in range(31))
    for own, moments in seen.values():
        yield own, sorted(moments)
