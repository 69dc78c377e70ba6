"""One incident as clean rows: its record, alerts, actions and task log, all from its number and the seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from opstune.simulate import alerts, logs, triage
from opstune.simulate.kinds import KINDS
from opstune.simulate.names import Names

Row = dict[str, Any]
#: A file of the history or a table of its database.
Place = str

_REVIEWED_SHARE = 0.75
_LOG_SHARE = 0.75
_AGENT_SHARE = 0.2
_PEOPLE = ("mira", "tom", "ada", "jon", "lea", "noor", "kai", "ida")


@dataclass
class Rows:
    """Rows by place, and the ids of those that must become examples, by skill."""

    places: dict[Place, list[Row]] = field(default_factory=dict)
    usable: dict[str, list[str]] = field(default_factory=dict)

    def add(self, place: Place, row: Row, skill: str | None = None) -> Row:
        self.places.setdefault(place, []).append(row)
        if skill:
            self.usable.setdefault(skill, []).append(row["id"])
        return row

    def of(self, place: Place) -> list[Row]:
        return self.places.get(place, [])


def write(seed: int, number: int, day: datetime) -> Rows:
    """The rows of incident ``number``, all of them on ``day`` (UTC midnight)."""
    rng = Random(f"{seed}-{number}")
    names, rows = Names(number, rng), Rows()
    opened = day + timedelta(minutes=rng.randint(5, 1290), seconds=rng.randint(0, 59))
    drawn = _alerts(rng, names)
    things = {key: value for alert in drawn[:1] for key, value in alert.parameters.items()}
    incident = _incident(rng, rows, names, things, opened)
    by_agent = rng.random() < _AGENT_SHARE
    for index, alert in enumerate(drawn):
        started = opened + timedelta(seconds=rng.randint(20, 1500))
        row = _alert_row(f"AL-{number:06d}-{index}", incident["id"], alert, started)
        rows.add("alerts", row)
        handled = started + timedelta(seconds=rng.randint(60, 1200))
        if by_agent:
            rows.add("agent_runs", agent_run(row, alert.function, alert.parameters, "success", handled), "remediation")
        else:
            person = rng.choice(_PEOPLE)
            rows.add(
                "remediation_actions",
                action(row, alert.function, alert.parameters, "success", handled, person),
                "remediation",
            )
            rows.add("audit_log", _audit_row(row, alert.function, person, handled))
    if rng.random() < _LOG_SHARE:
        _task_log(rng, rows, names, incident, opened + timedelta(minutes=rng.randint(1, 60)))
    return rows


def _alerts(rng: Random, names: Names) -> list[alerts.Alert]:
    """Three to six alerts: most show the incident's own cause on several things, some another."""
    kind, cause = alerts.pick(rng)
    drawn: list[alerts.Alert] = []
    for _ in range(rng.choices((3, 4, 5, 6), (35, 35, 20, 10))[0]):
        if drawn and rng.random() < 0.45:
            other = rng.choice(KINDS)
            drawn.append(alerts.draw(rng, names, other, rng.choice(list(other.functions))))
        else:
            drawn.append(alerts.draw(rng, names, kind, cause))
    return drawn


def _incident(rng: Random, rows: Rows, names: Names, things: dict[str, str], opened: datetime) -> Row:
    found = triage.draw(rng, names, things)
    reviewed = rng.random() < _REVIEWED_SHARE
    closed = opened + timedelta(minutes=rng.randint(40, 100))
    row: Row = {
        "id": f"INC-{names.number:06d}",
        "opened_at": stamp(opened),
        "closed_at": stamp(closed),
        "service": names.service,
        "namespace": names.namespace,
        "tier": found.tier,
        "title": found.title,
        "symptom": found.symptom,
        "impact": found.impact,
        "affected": found.affected,
        "scope": found.scope,
        "state": "reviewed" if reviewed else "closed",
        "severity": found.severity if reviewed else None,
        "root_cause": found.root_cause if reviewed else None,
        "mitigation": found.mitigation if reviewed else None,
        "prevention": found.prevention if reviewed else None,
        "updated_at": stamp(closed + timedelta(minutes=5)),
    }
    rows.add("services", {"name": names.service, "team": rng.choice(("red", "blue", "green")), "tier": found.tier})
    return rows.add("incidents", row, "triage" if reviewed else None)


def _alert_row(alert_id: str, incident_id: str, alert: alerts.Alert, started: datetime) -> Row:
    return {
        "id": alert_id,
        "incident_id": incident_id,
        "name": alert.kind,
        "severity": alert.severity,
        "status": alert.status,
        "reason": alert.reason,
        "summary": alert.summary,
        "description": alert.description,
        "labels": json.dumps(alert.labels),
        "starts_at": stamp(started),
        "_right": (alert.function, alert.parameters),
        "_wrong": alert.wrong,
    }


def action(alert: Row, function: str, parameters: dict[str, str], outcome: str, at: datetime, by: str) -> Row:
    """A row of ``remediation_actions``; people write ``acknowledge`` where nothing was to be done."""
    return {
        "id": f"RA{alert['id'][2:]}",
        "alert_id": alert["id"],
        "function": "acknowledge" if function == "none" else function,
        "parameters": json.dumps(parameters),
        "outcome": outcome,
        "executed_by": by,
        "executed_at": stamp(at),
        "updated_at": stamp(at + timedelta(seconds=30)),
    }


def agent_run(alert: Row, function: str, parameters: dict[str, str], outcome: str, at: datetime) -> Row:
    """A line of ``agent_runs.jsonl``: the automation's own record of an alert and its call."""
    return {
        "id": f"RUN{alert['id'][2:]}",
        "finished_at": at.isoformat(),
        "event": {
            "alertname": alert["name"],
            "state": alert["status"],
            "reason": alert["reason"],
            "starts_at": alert["starts_at"].replace(" ", "T") + "Z",
            "incident": alert["incident_id"],
            "labels": {"severity": alert["severity"], **json.loads(alert["labels"])},
            "annotations": {"summary": alert["summary"], "description": alert["description"]},
        },
        "call": {"name": function, "arguments": parameters},
        "result": {"status": "ok" if outcome == "success" else "error"},
    }


def _audit_row(alert: Row, function: str, person: str, at: datetime) -> Row:
    """An entry that every action leaves; nobody reviews these."""
    return {
        "id": f"AU{alert['id'][2:]}",
        "at": stamp(at),
        "incident_id": alert["incident_id"],
        "actor": person,
        "action": "acknowledge" if function == "none" else f"run:{function}",
        "resource": f"alert/{alert['id']}",
        "result": "allowed",
        "origin": "company vpn",
        "details": json.dumps({"alert": alert["name"]}),
        **dict.fromkeys(("risk", "impact", "root_cause", "actions", "reviewed_by")),
        "updated_at": stamp(at),
    }


def _task_log(rng: Random, rows: Rows, names: Names, incident: Row, at: datetime) -> None:
    found = logs.draw(rng, names, at)
    row: Row = {
        "id": f"TL-{names.number:06d}",
        "at": at.isoformat(),
        "incident": incident["id"],
        "task": found.task,
        "log": found.log,
        "finding": {
            "message": found.message,
            "category": found.category,
            "severity": found.severity,
            "confidence": found.confidence,
            "reasoning": found.reasoning,
        },
    }
    rows.add("task_logs", row, "log_error")


def stamp(moment: datetime) -> str:
    """As the database writes times: UTC, without saying so."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"
