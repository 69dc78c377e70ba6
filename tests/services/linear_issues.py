"""Completed issues of an invented team, written in many ways, each with what a careful reader would find in it."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
_CAUSES = [
    "a full disk on {host}",
    "an expired certificate of {host}",
    "a lock held by {host}",
    "a bad deploy of {host}",
]
_FIXES = ["cleaned the disk of {host}", "renewed the certificate", "killed the session", "rolled {host} back"]
_PRIORITIES = {1: ("Urgent", "SEV-0"), 2: ("High", "SEV-1"), 3: ("Medium", "SEV-2"), 4: ("Low", "SEV-3")}


@dataclass(frozen=True)
class Told:
    """An issue as Linear has it, and what it tells; an empty text where it tells nothing."""

    issue: Json
    cause: str
    fix: str
    severity: str
    alert: str


def issues(count: int, seed: int = 7) -> list[Told]:
    """Of every ten one tells no cause and one has no severity; 130 in a row were changed at the same moment."""
    dice = random.Random(seed)
    return [_issue(number, dice) for number in range(count)]


def stamp(moment: datetime) -> str:
    """As Linear writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def comment(body: str, at: datetime, by: str | None = "Jane", bot: str | None = None) -> Json:
    named = {"user": by, "externalUser": None, "botActor": bot}
    people = {field: {"name": name} if name else None for field, name in named.items()}
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_OID, body + stamp(at))), "body": body, "createdAt": stamp(at), **people}


def _issue(number: int, dice: random.Random) -> Told:
    host = f"db-{number}"
    cause = dice.choice(_CAUSES).format(host=host) if number % 10 else ""
    fix = dice.choice(_FIXES).format(host=host) if cause else ""
    alert = f"Alert{number % 23}High" if number % 3 else ""
    priority = number % 10 % 5
    label, severity = _PRIORITIES.get(priority, ("No priority", ""))
    if number % 20 == 5:
        severity = "SEV-3"
    created = BEGIN + timedelta(minutes=37 * number)
    changed = BEGIN + timedelta(minutes=37 * 340) if 200 <= number < 330 else created + timedelta(hours=3)
    description, comments = _written(number, host, cause, fix, alert, created)
    done = {"name": "Done", "type": "completed"}
    issue: Json = {
        "id": str(uuid.UUID(int=dice.getrandbits(128))),
        "identifier": f"OPS-{number}",
        "title": f"{host} is in trouble",
        "description": description,
        "url": f"https://linear.app/acme/issue/OPS-{number}",
        "priority": float(priority),
        "priorityLabel": label,
        "createdAt": stamp(created),
        "startedAt": stamp(created + timedelta(minutes=3)),
        "completedAt": stamp(created + timedelta(hours=2)),
        "archivedAt": stamp(created + timedelta(hours=3)) if number % 7 == 0 else None,
        "updatedAt": stamp(changed),
        "state": done,
        "team": {"key": "OPS" if number % 2 else "DBA"},
        "assignee": {"name": "Sam"} if number % 2 else None,
        "parent": {"identifier": "OPS-1"} if number % 50 == 49 else None,
        "labels": [{"name": "incident"}, *({"name": f"area {n}"} for n in range(12 if number % 31 == 0 else 1))],
        "attachments": [
            {
                "title": f"page {n}",
                "url": f"https://acme.pagerduty.com/incidents/Q{number}{n}",
                "sourceType": "pagerduty",
            }
            for n in range(number % 3 * 6)
        ],
        "comments": comments,
        "history": [
            {"createdAt": stamp(created), "actor": None, "fromState": None, "toState": {"name": "Todo"}},
            {
                "createdAt": stamp(created + timedelta(hours=2)),
                "actor": {"name": "Sam"},
                "fromState": {"name": "Todo"},
                "toState": {"name": "Done"},
            },
        ],
    }
    if number % 20 == 5:
        issue["labels"].append({"name": "sev3"})
    return Told(issue, cause, fix, severity, alert)


def _written(number: int, host: str, cause: str, fix: str, alert: str, created: datetime) -> tuple[str, list[Json]]:
    """The same facts as headings, bold labels, plain labels, a template with a closing comment, or prose."""
    later = created + timedelta(hours=1)
    chat = [
        comment(f"looking at {host}, step {n}", created + timedelta(minutes=n))
        for n in range(45 if number % 12 == 0 else number % 3)
    ]
    named = f"**Alert:** `{alert}`\n\n" if alert else ""
    known, done = cause or "TBD", fix or "n/a"
    forms = [
        (f"{named}## Root cause\n{known}\n\n## Resolution\n{done}\n", []),
        (f"{named}**Root cause:** {known}\n**Fix:** {done}\n**Owner:** Sam\n", []),
        (f"{named}Root cause: {known}\nFix: {done}\nOwner: Sam\n", []),
        (
            f"{named}## Root cause\n<!-- fill in -->\n",
            [comment(f"### RCA\n{known}\n### How we fixed it\n{done}", later)],
        ),
        (
            f"{named}## Root cause\nunknown\n",
            [comment(f"Root cause: {known}\nFix: {done}", later), comment("Root cause: aliens", later, None, "helper")],
        ),
    ]
    description, closing = forms[number % len(forms)]
    return description, [*chat, *closing]
