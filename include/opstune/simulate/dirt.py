"""What real exports carry besides the truth: repeats, failures, broken rows and secrets, each one counted."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from opstune.simulate.incidents import Row, Rows, action, agent_run, write

#: How many of each an incident brings on average.
RATES = {
    "exact_duplicate": 0.12,
    "near_duplicate": 0.13,
    "near_duplicate_across": 0.04,
    "failed_remediation": 0.16,
    "broken_action": 0.05,
    "broken_log": 0.03,
    "secret_in_alert": 0.08,
    "secret_in_log": 0.06,
    "secret_in_incident": 0.03,
}
FILLERS = ("again", "still", "now", "today", "once more", "as before", "here", "right now")
_ALNUM = string.ascii_letters + string.digits


@dataclass
class Dirt:
    """What was planted: row ids by kind of dirt, and the secrets in clear."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def note(self, kind: str, row_id: str) -> None:
        self.ids.setdefault(kind, []).append(row_id)


def soil(rows: Rows, seed: int, number: int, earlier: tuple[int, datetime] | None) -> Dirt:
    """Add dirt to an incident's rows; ``earlier`` is the number and day of an incident to repeat an alert of."""
    rng, dirt = Random(f"{seed}-{number}-dirt"), Dirt()
    happens = {kind: rng.random() < rate for kind, rate in RATES.items()}
    if happens["secret_in_alert"]:
        _leak_in_alert(rng, rows, dirt)
    if happens["secret_in_log"] and rows.of("task_logs"):
        _leak_in_log(rng, rows.of("task_logs")[0], dirt)
    if happens["secret_in_incident"]:
        incident = rows.of("incidents")[0]
        incident["symptom"] += f", {secret(rng, dirt)}"
        dirt.note("secret_in_incident", incident["id"])
    if happens["exact_duplicate"]:
        _repeat(rng, rows, rows, "x", 0, dirt, "exact_duplicate")
    if happens["near_duplicate"]:
        _repeat(rng, rows, rows, "n", _edits(rng), dirt, "near_duplicate")
    if happens["near_duplicate_across"] and earlier:
        _repeat(rng, write(seed, *earlier), rows, f"o{number}", _edits(rng), dirt, "near_duplicate_across")
    if happens["failed_remediation"]:
        _fail(rng, rows, dirt)
    if happens["broken_action"]:
        _break_action(rng, rows, dirt)
    if happens["broken_log"]:
        _break_log(rng, rows, number, dirt)
    return dirt


def _edits(rng: Random) -> int:
    return rng.choices((1, 2, 3), (70, 20, 10))[0]


def _handling(rows: Rows, alert: Row) -> tuple[str, Row]:
    """The place and row that tell how an alert was handled."""
    for place, prefix in (("remediation_actions", "RA"), ("agent_runs", "RUN")):
        for row in rows.of(place):
            if row["id"] == prefix + alert["id"][2:]:
                return place, row
    raise KeyError(alert["id"])


def _handle(
    rows: Rows,
    alert: Row,
    like: tuple[str, Row],
    outcome: str = "success",
    call: tuple[str, dict[str, str]] | None = None,
) -> Row:
    """Write how ``alert`` was handled: as the given row tells, or by another call."""
    place, known = like
    at = datetime.fromisoformat(alert["starts_at"]) + timedelta(minutes=2)
    if place == "agent_runs":
        function, parameters = call or (known["call"]["name"], known["call"]["arguments"])
        return rows.add(place, agent_run(alert, function, parameters, outcome, at.replace(tzinfo=UTC)))
    function, parameters = call or (known["function"], json.loads(known["parameters"]))
    return rows.add(place, action(alert, function, parameters, outcome, at, known["executed_by"]))


def _repeat(rng: Random, found_in: Rows, rows: Rows, mark: str, edits: int, dirt: Dirt, kind: str) -> None:
    """Export an alert once more under another id, with some words added."""
    known = rng.choice(found_in.of("alerts"))
    own = rows.of("alerts")[0]
    again = {**known, "id": known["id"] + mark, "incident_id": own["incident_id"], "starts_at": own["starts_at"]}
    for _ in range(edits):
        text = rng.choice([name for name in ("summary", "description") if again[name]])
        words = again[text].split()
        words.insert(rng.randint(1, len(words)), rng.choice(FILLERS))
        again[text] = " ".join(words)
    row = _handle(rows, rows.add("alerts", again), _handling(found_in, known))
    dirt.note(kind, row["id"])


def _fail(rng: Random, rows: Rows, dirt: Dirt) -> None:
    """A plausible action that did not help comes before the right one of the same alert."""
    tried = [alert for alert in rows.of("alerts") if alert["_wrong"]]
    if not tried:
        return
    alert = rng.choice(tried)
    place, right = _handling(rows, alert)
    failed = _handle(rows, alert, (place, right), "failure", alert["_wrong"])
    failed["id"] += "f"
    dirt.note("failed_remediation", failed["id"])


def _break_action(rng: Random, rows: Rows, dirt: Dirt) -> None:
    """A further action row or agent run that cannot become an example."""
    known = rows.of("alerts")[-1]
    alert = {**known, "id": known["id"] + "b"}
    row = _handle(rows, rows.add("alerts", alert), _handling(rows, known))
    faults: dict[str, tuple[Row, Any]] = {
        "function": (row, "reboot_universe"),
        "parameters": (row, rng.choice(("{namespace: ", '{"shoe": "left"}', "42"))),
        "name": (alert, None),
        "labels": (alert, "pod=x,node=y"),
        "starts_at": (alert, rng.choice(("2026-13-40 25:00:00", "yesterday", "2199-01-01 00:00:00"))),
    }
    if "event" in row:
        faults = {
            "event": (row, rng.choice((None, "see ticket"))),
            "call": (row, {"name": "reboot_universe", "arguments": {}}),
            "labels": (row["event"], ["pod", "x"]),
            "alertname": (row["event"], ""),
        }
    key = rng.choice(list(faults))
    place, value = faults[key]
    place[key] = value
    dirt.note("broken_record", row["id"])


def _break_log(rng: Random, rows: Rows, number: int, dirt: Dirt) -> None:
    """A line of the task log export that cannot become an example, or is no JSON at all."""
    line: Row = {
        "id": f"TL-{number:06d}b",
        "at": _opened(rows),
        "task": "merge-nothing",
        "log": "ERROR: nothing",
        "finding": {"message": "nothing", "category": "data", "severity": "low", "confidence": "high"},
    }
    key, value = rng.choice(
        (
            ("log", 42),
            ("finding", None),
            ("at", "half past nine"),
            ("finding", {"category": "gremlins"}),
            ("_raw", '{"id": "TL-'),
        )
    )
    line[key] = value
    rows.add("task_logs", line)
    dirt.note("broken_record", line["id"])


def _opened(rows: Rows) -> str:
    return str(rows.of("incidents")[0]["opened_at"]).replace(" ", "T") + "+00:00"


def _leak_in_alert(rng: Random, rows: Rows, dirt: Dirt) -> None:
    alert = rng.choice(rows.of("alerts"))
    place, row = _handling(rows, alert)
    alert["description"] = f"{alert['description']}, {secret(rng, dirt)}".removeprefix(", ")
    if place == "agent_runs":
        row["event"]["annotations"]["description"] = alert["description"]
    dirt.note("secret_in_alert", row["id"])


def _leak_in_log(rng: Random, row: Row, dirt: Dirt) -> None:
    """Into the first line, which is never the error's."""
    first, rest = row["log"].split("\n", 1)
    row["log"] = f"{first}, {secret(rng, dirt)}\n{rest}"
    dirt.note("secret_in_log", row["id"])


def secret(rng: Random, dirt: Dirt) -> str:
    """A phrase with a secret or personal datum that is nobody's."""
    word = "".join(rng.choices(_ALNUM, k=rng.randint(14, 20)))
    name = f"{rng.choice(('mira', 'tom', 'ada', 'jon'))}.{rng.choice(('river', 'stone', 'field'))}"
    person = f"{name}{rng.randint(10, 99)}@{rng.choice(('home', 'post', 'letters'))}.example"
    hidden, phrase = rng.choice(
        (
            ("AKIA" + "".join(rng.choices(string.ascii_uppercase + string.digits, k=16)), "aws key {}"),
            (word, "dsn postgres://svc:{}@db.internal/main"),
            (word + word[::-1], "header Authorization: Bearer {}"),
            (word, "password={}"),
            (person, "reported by {}"),
            (f"10.{rng.randint(1, 254)}.{rng.randint(1, 254)}.{rng.randint(1, 254)}", "seen from {}"),
        )
    )
    dirt.secrets.append(hidden)
    return phrase.format(hidden)
