"""What four skills more and the feedback source learn from: an incident's further rows, dirt and all.

Each kind draws from a random stream of its own, so that what the first three skills learn from stays as it is.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from opstune.simulate import audit, code, diagnosis, feedback, workflow
from opstune.simulate.dirt import FILLERS, Dirt, secret
from opstune.simulate.incidents import Row, Rows, stamp
from opstune.simulate.names import Names

#: How many of each kind an incident brings, and how many of those somebody reviewed.
_SHARE, _REVIEWED_SHARE = 0.65, 0.85
#: How many rows of each kind of dirt a row brings. ``unreachable`` answers name what their case does not show.
RATES = {"exact_duplicate": 0.06, "near_duplicate": 0.07, "broken_record": 0.04, "leak": 0.06, "unreachable": 0.02}
#: Accounts that are called like the people who own them.
_NAMED_SHARE = 0.2
_REVIEWERS = ("vera", "omar", "lin")


@dataclass(frozen=True)
class _Kind:
    """One kind of row: where it goes, how it comes about, and how it gets dirty.

    ``say`` writes some words more into a row. ``found`` are the keys that a review fills in. ``faults`` are values
    that make a record unusable, ``unreachable`` an answer that the schema of its case does not allow.
    """

    skill: str
    place: str
    table: bool
    mark: str
    draw: Callable[[Random, Names, datetime, Dirt], Row]
    say: Callable[[Row, str], None]
    leak: Callable[[Random, Dirt], str]
    found: tuple[str, ...]
    faults: tuple[Row, ...]
    unreachable: Row | None


def add(seed: int, number: int, day: datetime, day_index: int, rows: Rows) -> tuple[Dirt, dict[str, list[str]]]:
    """Add the further rows of incident ``number``; returns their dirt, and the ids of its feedback by kind.

    ``rows`` are as they are exported: feedback is about the logs as people saw them, dirt and all.
    """
    dirt = Dirt()
    for kind in _KINDS:
        rng = Random(f"{seed}-{number}-{kind.skill}")
        if rng.random() < _SHARE:
            at = day + timedelta(minutes=rng.randint(30, 1380), seconds=rng.randint(0, 59))
            drawn = kind.draw(rng, Names(number, rng), at, dirt)
            row = {"id": f"{kind.mark}-{number:06d}", "incident_id": f"INC-{number:06d}", **drawn}
            _write(rng, rows, kind, row | {"reviewed_by": rng.choice(_REVIEWERS)}, dirt)
    told: dict[str, list[str]] = {}
    for log in (log for log in rows.of("task_logs") if log["id"] in rows.usable.get("log_error", ())):
        for of_kind, row in feedback.draw(seed, number, day, day_index, log):
            told.setdefault(of_kind, []).append(rows.add("feedback", row)["id"])
    return dirt, told


def _write(rng: Random, rows: Rows, kind: _Kind, row: Row, dirt: Dirt) -> None:
    """The row, and the dirt that it brings; what nobody reviewed brings none but leaks."""
    happens = {name: rng.random() < rate for name, rate in RATES.items()}
    reviewed = rng.random() < _REVIEWED_SHARE
    if happens["leak"]:
        kind.say(row, kind.leak(rng, dirt))
        dirt.note(f"leak_in_{kind.skill}", row["id"])
    if not reviewed:
        rows.add(kind.place, _stored(kind, row | dict.fromkeys((*kind.found, "reviewed_by"))))
        return
    rows.add(kind.place, _stored(kind, row), kind.skill)
    again = {"exact_duplicate": row, "broken_record": row | rng.choice(kind.faults)}
    if kind.unreachable:
        again["unreachable"] = row | kind.unreachable
    if happens["near_duplicate"]:
        again["near_duplicate"] = copy.deepcopy(row)
        kind.say(again["near_duplicate"], rng.choice(FILLERS))
    for name, other in again.items():
        if happens[name]:
            more = rows.add(kind.place, _stored(kind, {**other, "id": row["id"] + name[0]}))
            dirt.note(name, more["id"])


def _stored(kind: _Kind, row: Row) -> Row:
    """As its place keeps it: columns of a table hold lists and mappings as JSON text."""
    if not kind.table:
        return row
    return {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}


def _diagnosis(rng: Random, names: Names, at: datetime, _: Dirt) -> Row:
    return {"at": stamp(at), **vars(diagnosis.draw(rng, names)), "updated_at": stamp(at + timedelta(minutes=30))}


def _audit(rng: Random, names: Names, at: datetime, dirt: Dirt) -> Row:
    actor = names.coded("staff", "user", "person")
    if rng.random() < _NAMED_SHARE:
        actor = f"{rng.choice(('mira', 'tom', 'ada', 'jon'))}.{names.service}@post.example"
        dirt.secrets.append(actor)
    entry = {**vars(audit.draw(rng, names, actor))}
    at = at.replace(hour=entry.pop("hour"))
    return {"at": stamp(at), **entry, "actions": entry["actions"] or None, "updated_at": stamp(at)}


def _code(rng: Random, names: Names, at: datetime, dirt: Dirt) -> Row:
    piece = {**vars(code.draw(rng, names))}
    dirt.secrets += piece.pop("secrets")
    return {"at": at.isoformat(), **piece}


def _workflow(rng: Random, names: Names, at: datetime, _: Dirt) -> Row:
    return {"at": at.isoformat(), **vars(workflow.draw(rng, names))}


def _owner(rng: Random, dirt: Dirt) -> str:
    """An address: a secret in a comment would be one more finding."""
    dirt.secrets.append(f"{rng.choice(('mira', 'tom', 'ada', 'jon'))}{rng.randint(100, 999)}@post.example")
    return f"owner {dirt.secrets[-1]}"


def _say_in_list(key: str) -> Callable[[Row, str], None]:
    def say(row: Row, words: str) -> None:
        row[key][-1] += f", {words}"

    return say


def _say_in_note(row: Row, words: str) -> None:
    row["details"]["note"] = " ".join(filter(None, (row["details"].get("note"), words)))


def _say_in_comment(row: Row, words: str) -> None:
    """In front: a diff may open with words, and its counts of lines stay right."""
    row["code"] = f"# {words}\n{row['code']}"


_KINDS = (
    _Kind(
        "diagnosis",
        place="diagnoses",
        table=True,
        mark="DG",
        draw=_diagnosis,
        say=_say_in_list("symptoms"),
        leak=secret,
        found=("root_cause", "query", "critical_paths", "remediation"),
        faults=(
            {"at": "yesterday"},
            {"symptoms": []},
            {"telemetry": "latency, errors"},
            {"topology": '{"web": '},
            {"root_cause": ""},
        ),
        unreachable={"critical_paths": ["nowhere > here"]},
    ),
    _Kind(
        "audit",
        place="audit_log",
        table=True,
        mark="AE",
        draw=_audit,
        say=_say_in_note,
        leak=secret,
        found=("risk", "impact", "root_cause", "actions"),
        faults=(
            {"risk": "severe"},
            {"actor": None},
            {"action": ""},
            {"details": '{"approval'},
            {"actions": "ask them"},
        ),
        unreachable=None,
    ),
    _Kind(
        "code_review",
        place="code_contexts",
        table=False,
        mark="CC",
        draw=_code,
        say=_say_in_comment,
        leak=_owner,
        found=("findings", "risk"),
        faults=(
            {"kind": "novel"},
            {"code": " \n"},
            {"findings": [{"kind": "gremlins", "line": "x"}]},
            {"risk": "grave"},
            {"at": "soon"},
        ),
        unreachable={"findings": [{"kind": "other", "line": "a line that is not there", "advice": ""}]},
    ),
    _Kind(
        "workflow",
        place="workflows",
        table=False,
        mark="WF",
        draw=_workflow,
        say=_say_in_list("manual_steps"),
        leak=secret,
        found=("name", "trigger", "steps", "rollback"),
        faults=(
            {"steps": [{"function": "reboot_universe", "when": ""}]},
            {"manual_steps": []},
            {"rollback": None},
            {"signals": 7},
            {"at": "each monday"},
        ),
        unreachable={"trigger": "NothingOfTheKind"},
    ),
)
