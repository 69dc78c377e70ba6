"""The generated history on disk: ``oncall.db`` and JSON lines, grown week by week, with its truth beside it."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opstune.artifacts import write_text
from opstune.errors import ConfigError
from opstune.settings import SimulateSettings
from opstune.simulate import extras
from opstune.simulate.dirt import Dirt, soil
from opstune.simulate.incidents import Row, Rows, write

#: Where a history ends when nobody says: fixed, so that the same seed gives the same bytes in any year.
UNTIL = datetime(2026, 1, 5, tzinfo=UTC)
TRUTH = "truth.json"
TABLES = {
    "services": "name TEXT PRIMARY KEY, team TEXT, tier TEXT",
    "incidents": "id TEXT PRIMARY KEY, opened_at TEXT, closed_at TEXT, service TEXT, namespace TEXT, tier TEXT, "
    "title TEXT, symptom TEXT, impact TEXT, affected TEXT, scope TEXT, state TEXT, severity TEXT, "
    "root_cause TEXT, mitigation TEXT, prevention TEXT, updated_at TEXT",
    "alerts": "id TEXT PRIMARY KEY, incident_id TEXT, name TEXT, severity TEXT, status TEXT, reason TEXT, "
    "summary TEXT, description TEXT, labels TEXT, starts_at TEXT",
    "remediation_actions": "id TEXT PRIMARY KEY, alert_id TEXT, function TEXT, parameters TEXT, outcome TEXT, "
    "executed_by TEXT, "
    "executed_at TEXT, updated_at TEXT",
    "audit_log": "id TEXT PRIMARY KEY, at TEXT, incident_id TEXT, actor TEXT, action TEXT, resource TEXT, result TEXT, "
    "origin TEXT, details TEXT, risk TEXT, impact TEXT, root_cause TEXT, actions TEXT, reviewed_by TEXT, "
    "updated_at TEXT",
    "diagnoses": "id TEXT PRIMARY KEY, incident_id TEXT, at TEXT, symptoms TEXT, telemetry TEXT, topology TEXT, "
    "root_cause TEXT, query TEXT, critical_paths TEXT, remediation TEXT, reviewed_by TEXT, updated_at TEXT",
}
FILES = ("task_logs", "agent_runs", "code_contexts", "workflows", "feedback")
#: Grows with every change of what is written: a history of another form cannot be gone on with.
FORM = 2
#: Incidents by weekday, Monday first; the mean is one.
_WEEK = (1.2, 1.1, 1.1, 1.1, 1.1, 0.7, 0.7)
#: On this weekday the task log export breaks off in the middle of its last line.
_BROKEN_OFF = 6


class Truth(BaseModel):
    """What a history holds. Kept beside it as ``truth.json``; no source reads it."""

    model_config = ConfigDict(extra="forbid")

    form: int = Field(1, description="a truth that does not tell is of the first form")
    seed: int
    days: int
    incidents_per_day: int
    until: datetime
    through: datetime
    incidents: int = 0
    sizes: dict[str, int] = Field(default_factory=dict)
    usable: dict[str, list[str]] = Field(
        default_factory=dict, description="skill → ids of the rows that become examples"
    )
    dirt: dict[str, list[str]] = Field(default_factory=dict, description="kind → ids of the rows that carry it")
    feedback: dict[str, list[str]] = Field(default_factory=dict, description="kind of feedback → ids of its rows")
    secrets: list[str] = Field(default_factory=list)


def write_history(out: Path, settings: SimulateSettings, until: datetime | None = None, weeks_after: int = 0) -> Truth:
    """Write the history of ``settings.days`` days before ``until`` and of ``weeks_after`` weeks after it.

    What stands there stays: a call that asks for one more week adds seven days, and the result is byte for
    byte that of writing all at once. The same settings give the same history; ``until`` defaults to that of
    the history that stands there, else to ``UNTIL``.

    Raises:
        ConfigError: a history of other settings, or of another version of opstune, stands there.
    """
    out.mkdir(parents=True, exist_ok=True)
    truth = _standing(out, settings, until)
    wanted = truth.until + timedelta(weeks=weeks_after)
    if truth.through >= wanted:
        return truth
    for name in FILES:
        with (out / f"{name}.jsonl").open("ab") as file:
            file.truncate(truth.sizes.get(name, 0))
    with closing(sqlite3.connect(out / "oncall.db")) as database, database:
        for table, columns in TABLES.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        while truth.through < wanted:
            _write_day(out, database, truth)
    truth.sizes = {name: (out / f"{name}.jsonl").stat().st_size for name in FILES}
    write_text(out / TRUTH, truth.model_dump_json(indent=1))
    return truth


def _standing(out: Path, settings: SimulateSettings, until: datetime | None) -> Truth:
    try:
        found = Truth.model_validate_json((out / TRUTH).read_text())
    except FileNotFoundError:
        end = (until or UNTIL).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return Truth(form=FORM, **settings.model_dump(), until=end, through=end - timedelta(days=settings.days))
    except ValidationError as error:
        raise ConfigError(
            f"{TRUTH} is not one that opstune wrote", str(out), "Remove the folder and write the history again."
        ) from error
    if found.form != FORM:
        raise ConfigError(
            "a history that another version of opstune wrote stands here",
            str(out),
            "Remove the folder and write it again.",
        )
    same = SimulateSettings(seed=found.seed, days=found.days, incidents_per_day=found.incidents_per_day) == settings
    if not same or (until and until.astimezone(UTC).date() != found.until.date()):
        raise ConfigError(
            "a history of other settings stands here", str(out), "Remove the folder or ask for the same settings."
        )
    return found


def _write_day(out: Path, database: sqlite3.Connection, truth: Truth) -> None:
    """The incidents of the first day that is missing."""
    day = truth.through
    index = (day - truth.until).days + truth.days
    most = math.ceil(truth.incidents_per_day * max(_WEEK))
    count = round(truth.incidents_per_day * _WEEK[day.weekday()])
    for number in range(index * most, index * most + count):
        rows = write(truth.seed, number, day)
        earlier = (number - most, day - timedelta(days=1)) if index else None
        dirt = soil(rows, truth.seed, number, earlier)
        more, feedback = extras.add(truth.seed, number, day, index, rows)
        _tell(truth, rows, (dirt, more), feedback)
        _store(out, database, rows)
    if day.weekday() == _BROKEN_OFF:
        whole = json.dumps({"id": f"TL-{index:06d}-half", "log": "12:00:00 INFO starting"})
        _append(out / "task_logs.jsonl", [{"_raw": whole[: len(whole) // 2]}], end="")
        truth.dirt.setdefault("half_line", []).append(f"TL-{index:06d}-half")
    truth.incidents += count
    truth.through = day + timedelta(days=1)


def _tell(truth: Truth, rows: Rows, planted: Iterable[Dirt], feedback: Mapping[str, list[str]]) -> None:
    """Note what an incident brought."""
    for dirt in planted:
        for kind, ids in dirt.ids.items():
            truth.dirt.setdefault(kind, []).extend(ids)
        truth.secrets += dirt.secrets
    for told, found in ((truth.usable, rows.usable), (truth.feedback, feedback)):
        for name, ids in found.items():
            told.setdefault(name, []).extend(ids)


def _store(out: Path, database: sqlite3.Connection, rows: Rows) -> None:
    for table, columns in TABLES.items():
        names = [column.split()[0] for column in columns.split(", ")]
        marks = ", ".join("?" * len(names))
        database.executemany(
            f"INSERT OR REPLACE INTO {table} VALUES ({marks})",
            [[row[name] for name in names] for row in rows.of(table)],
        )
    for name in FILES:
        _append(out / f"{name}.jsonl", rows.of(name))


def _append(path: Path, rows: list[Row], end: str = "\n") -> None:
    """Add lines; a line that broke off before is ended first."""
    if not rows:
        return
    lines = [row["_raw"] if "_raw" in row else json.dumps(row, ensure_ascii=False) for row in rows]
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(("\n".join(lines) + end).encode())
