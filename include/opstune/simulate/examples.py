"""Examples straight from the simulator, past every export and source: for measuring at size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice

from opstune.examples import Example, example_id
from opstune.settings import SimulateSettings
from opstune.simulate.incidents import Row, Rows, write
from opstune.skills import get

_START = datetime(2020, 1, 1, tzinfo=UTC)


def simulate_examples(settings: SimulateSettings, wanted: int) -> list[Example]:
    """``wanted`` clean examples of the first three skills in the order of time, without files and without dirt."""
    return list(islice(_examples(settings), wanted))


def _examples(settings: SimulateSettings) -> Iterator[Example]:
    for number in count():
        day = _START + timedelta(days=number // settings.incidents_per_day)
        yield from _of(write(settings.seed, number, day))


def _of(rows: Rows) -> Iterator[Example]:
    incident = rows.of("incidents")[0]
    for alert in rows.of("alerts"):
        context = {name: alert[name] for name in ("summary", "description", "severity", "status", "reason")}
        context |= {"alert": alert["name"], "labels": json.loads(alert["labels"])}
        context = get("remediation").context_model.model_validate(context).model_dump()
        answer = {"function": alert["_right"][0], "parameters": alert["_right"][1]}
        yield _example("remediation", alert, incident, alert["starts_at"], context, answer)
    if incident["severity"]:
        context = {name: incident[name] for name in ("title", "tier", "symptom", "impact", "affected", "scope")}
        answer = {name: incident[name] for name in ("severity", "root_cause", "mitigation", "prevention")}
        yield _example("triage", incident, incident, incident["opened_at"], context, answer)
    for log in rows.of("task_logs"):
        yield _example("log_error", log, incident, log["at"], {"log": log["log"], "job": log["task"]}, log["finding"])


def _example(skill: str, row: Row, incident: Row, at: str, context: Row, answer: Row) -> Example:
    return Example(
        id=example_id("simulated", row["id"], skill),
        skill=skill,
        source="simulated",
        source_id=row["id"],
        group_id=incident["id"],
        occurred_at=datetime.fromisoformat(at),
        context=context,
        answer=answer,
        outcome="success",
    )
