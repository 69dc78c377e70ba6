from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from collecting import write_lines
from pydantic import SecretStr, ValidationError

from opstune.collect import mapping
from opstune.collect.alerts.actions import Actions, ActionSource, as_action, load
from opstune.collect.alerts.prometheus import PrometheusOptions
from opstune.collect.kinds import KINDS
from opstune.collect.source import ALWAYS, Opening
from opstune.errors import ConfigError, ServiceDown
from opstune.settings import CollectSettings, Connection, config_dir, read_yaml

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RUN = {
    "id": "R-1",
    "finished_at": "2026-05-01T10:00:00Z",
    "event": {"alertname": "Down", "labels": {"pod": "a"}, "incident": "I-1"},
    "call": {"name": "restart_pod", "arguments": {"pod": "a"}},
    "result": {"status": "ok"},
}


def source(name: str = "agent_runs", **changes: Any) -> ActionSource:
    shipped = read_yaml(config_dir() / "sources" / "alert_episodes.yaml")["read"]["actions"][name]
    return ActionSource.model_validate({**shipped, **changes}, context={"kinds": KINDS})


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Actions]:
    def read(sources: dict[str, ActionSource], floor: datetime = ALWAYS, **urls: str) -> Actions:
        found = {f"opstune_{name}": Connection(url=SecretStr(url)) for name, url in urls.items()}
        opening = Opening("alerts", None, found.get, CollectSettings(), tmp_path, lambda record: None, KINDS)
        return load(sources, opening, floor)

    return read


def test_a_run_of_the_automation_becomes_an_action() -> None:
    action = as_action("agent_runs", source(), RUN, NOW)
    assert (action.key, action.alert, dict(action.labels)) == ("agent_runs/R-1", "Down", {"pod": "a"})
    assert (action.function, dict(action.parameters), action.outcome) == ("restart_pod", {"pod": "a"}, "success")
    assert (action.by, action.incident, action.at) == ("automation", "I-1", 1_777_629_600_000)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": None}, "id: there is none"),
        ({"finished_at": None}, "at: there is no time"),
        ({"finished_at": "soon"}, "at: 'soon' is not a time"),
        ({"finished_at": "2199-01-01"}, "at: '2199-01-01' lies in the future"),
        ({"event": {"labels": ["pod"]}}, "labels: \\['pod'\\] is no mapping"),
        ({"id": "", "finished_at": 0.5, "call": {"arguments": "pod"}}, "id: there is none; parameters: 'pod' is no"),
    ],
)
def test_a_record_that_is_no_action_says_why(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        as_action("agent_runs", source(), {**RUN, **changes}, NOW)


def test_an_outcome_must_be_one_that_opstune_knows() -> None:
    fields = {"id": "id", "at": "finished_at", "alert": "event.alertname", "outcome": "result.status"}
    with pytest.raises(ValueError, match="outcome: 'ok' is none of success, failure, unknown; map it"):
        as_action("agent_runs", source(fields=fields), RUN, NOW)


def test_values_become_texts_and_absent_ones_stay_away() -> None:
    bare = {"id": 7, "finished_at": 1_777_629_600, "call": {"arguments": {"replicas": 3}}}
    action = as_action("agent_runs", source(), bare, NOW)
    assert (action.key, dict(action.parameters)) == ("agent_runs/7", {"replicas": "3"})
    assert action.alert is action.function is action.incident is None and action.outcome == "unknown"


def test_what_cannot_be_read_as_an_action_goes_to_quarantine(tmp_path: Path, loaded: Callable[..., Actions]) -> None:
    write_lines(tmp_path / "agent_runs.jsonl", [RUN, {**RUN, "id": None}, "{half"])
    found = loaded({"agent_runs": source()}, files=str(tmp_path))
    assert list(found.known) == ["agent_runs/R-1"] and found.places == ["agent_runs: agent_runs.jsonl:1"]
    assert [(raw.origin, raw.fault.split(":")[0]) for raw in found.refused] == [
        ("agent_runs: agent_runs.jsonl:2", "no action"),
        ("agent_runs: agent_runs.jsonl:3", "no action"),
    ]


def test_actions_come_out_of_a_database_from_a_moment_on(tmp_path: Path, loaded: Callable[..., Actions]) -> None:
    file = tmp_path / "oncall.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE alerts (id, incident_id, name, labels)")
        database.execute(
            "CREATE TABLE remediation_actions (id, alert_id, function, parameters, outcome, executed_by, "
            "executed_at, updated_at)"
        )
        database.execute("INSERT INTO alerts VALUES ('A', 'I-1', 'Down', '{\"pod\": \"a\"}')")
        for day in (1, 9):
            at = f"2026-05-0{day} 10:00:00"
            database.execute(
                "INSERT INTO remediation_actions VALUES (?, 'A', 'acknowledge', '{}', 'success', 'ann', ?, ?)",
                (day, at, at),
            )
    sources = {"remediation_actions": source("remediation_actions")}
    url = f"sqlite:///{file}"
    assert list(loaded(sources, database=url).known) == ["remediation_actions/1", "remediation_actions/9"]
    (found,) = loaded(sources, datetime(2026, 5, 5, tzinfo=UTC), database=url).known.values()
    assert (found.function, found.by, found.incident, dict(found.labels)) == ("none", "ann", "I-1", {"pod": "a"})


def test_a_source_without_its_connection_is_not_joined_and_the_log_says_so(
    loaded: Callable[..., Actions], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert loaded({"agent_runs": source()}).known == {}
    assert "agent_runs is not joined: there is no connection opstune_files" in caplog.text


@pytest.mark.parametrize(
    ("name", "url", "error", "told"),
    [
        ("remediation_actions", "sqlite:////nowhere/oncall.db", ConfigError, "oncall.db is missing"),
        ("agent_runs", "/nowhere", ConfigError, "no file matches"),
        ("remediation_actions", "postgresql+psycopg://127.0.0.1:1/oncall", ServiceDown, "does not answer"),
    ],
)
def test_a_joined_source_that_fails_stops_the_collection_before_answers_are_taken_back(
    loaded: Callable[..., Actions], name: str, url: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        loaded({name: source(name)}, database=url, files=url)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "telegraph"}, "there is no kind of source 'telegraph'; known: files"),
        ({"kind": "database", "connection": None, "read": {"query": ":since", "watermark": "x"}}, "needs a connection"),
        ({"read": {"paht": "x"}}, "paht"),
        ({"fields": {"id": "id", "at": "at"}}, "without fields.alert, agree_on must name labels"),
        ({"fields": {"id": "id", "at": "at", "function": {"from": "f", "value": 1}}}, "exactly one of from, value"),
    ],
)
def test_a_wrong_source_of_actions_is_told_at_start(changes: dict[str, Any], told: str) -> None:
    shipped = read_yaml(config_dir() / "sources" / "alert_episodes.yaml")["read"]["actions"]["agent_runs"]
    with pytest.raises(ValidationError, match=told):
        PrometheusOptions.model_validate({"actions": {"runs": {**shipped, **changes}}}, context={"kinds": KINDS})


def test_history_is_read_again_when_the_rules_of_a_joined_source_change(config: Path) -> None:
    text = (Path(mapping.__file__).parents[2] / "config" / "sources" / "alert_episodes.yaml").read_text()
    prints = set()
    for version in (text, text.replace("finished_at", "started_at"), text.replace("again_days: 7", "again_days: 9")):
        (config / "sources" / "alert_episodes.yaml").write_text(version)
        prints.add(mapping.load("alert_episodes").fingerprint)
    assert len(prints) == 3
