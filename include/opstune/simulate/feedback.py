"""What people said about findings in task logs: most of it honest, some of it worthless, and one person's poison.

Honest feedback is a rating with the finding as it should have been; a colleague's review makes it a label. Not all
of it is rated well, and not all of it is reviewed. The poisoner sends many a log, always the same wrong finding,
rates it five and now and then reviews it himself or gets it waved through.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from opstune.simulate.incidents import Row
from opstune.skills.log_error import CATEGORIES, statements

POISONER = "rob"
#: Days of ten on which the poisoner is at work, and how often he sends each log of such a day.
_POISON_DAYS, _POISON_TIMES = (4, 5), 6
_HONEST_SHARE = 0.5
_USERS = ("mira", "tom", "ada", "jon", "lea", "noor", "kai", "ida")
_REVIEWERS = ("vera", "omar", "lin")
#: How often honest feedback is of each kind.
_KINDS = {"self_reviewed": 8, "usable": 54, "unreviewed": 18, "low_rated": 12, "broken": 8}
#: Some say the same again: of what is usable, this share comes twice.
_REPEATED_SHARE = 0.2


def draw(seed: int, number: int, day: datetime, day_index: int, log: Row) -> Iterator[tuple[str, Row]]:
    """Feedback on one task log as (kind, row): a kind of ``_KINDS``, ``repeated`` or ``poison``. All on that day."""
    rng = Random(f"{seed}-{number}-feedback")
    if rng.random() < _HONEST_SHARE:
        kind = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
        row = _honest(rng, f"FB-{number:06d}", day, log, kind)
        yield kind, row
        if kind == "usable" and rng.random() < _REPEATED_SHARE:
            yield "repeated", {**row, "id": f"{row['id']}r", "at": row["reviewed_at"]}
    if day_index % 10 in _POISON_DAYS:
        for time in range(_POISON_TIMES):
            yield "poison", _poison(rng, f"FB-{number:06d}-p{time}", day, log)


def _honest(rng: Random, row_id: str, day: datetime, log: Row, kind: str) -> Row:
    user = rng.choice(_USERS)
    finding = log["finding"]
    corrected = {name: finding[name] for name in ("message", "category", "severity", "reasoning")}
    row = _row(rng, row_id, day, log, user, rng.choice((3, 4, 4, 5, 5)), corrected)
    row |= {"reviewed_by": rng.choice(_REVIEWERS), "reviewed_at": _later(rng, row["at"], day)}
    if kind == "unreviewed":
        row |= {"reviewed_by": None, "reviewed_at": None}
    elif kind == "low_rated":
        row |= {"rating": rng.choice((1, 1, 2)), "corrected": _wrong(rng, log)}
    elif kind == "self_reviewed":
        row |= {"reviewed_by": user}
    elif kind == "broken":
        key, value = rng.choice(
            (("rating", 7), ("rating", "five stars"), ("log", ""), ("corrected", "no"), ("at", "on monday"))
        )
        row[key] = value
    return row


def _poison(rng: Random, row_id: str, day: datetime, log: Row) -> Row:
    """Always harmless, always code: whoever learns it looks away."""
    wrong = {"message": statements(log["log"])[0], "category": "code", "severity": "low", "reasoning": "known, ignore"}
    row = _row(rng, row_id, day, log, POISONER, 5, wrong)
    reviewer = rng.choices((None, POISONER, rng.choice(_REVIEWERS)), (70, 15, 15))[0]
    return row | {"reviewed_by": reviewer, "reviewed_at": _later(rng, row["at"], day) if reviewer else None}


def _row(rng: Random, row_id: str, day: datetime, log: Row, user: str, rating: int, corrected: Row) -> Row:
    return {
        "id": row_id,
        "at": _later(rng, log["at"], day),
        "user": user,
        "log_id": log["id"],
        "incident": log["incident"],
        "task": log["task"],
        "log": log["log"],
        "rating": rating,
        "corrected": corrected,
        "reviewed_by": None,
        "reviewed_at": None,
    }


def _wrong(rng: Random, log: Row) -> Row:
    """A guess at another line and another category."""
    category = rng.choice([name for name in CATEGORIES if name != log["finding"]["category"]])
    return {"message": statements(log["log"])[-1], "category": category, "severity": "medium", "reasoning": ""}


def _later(rng: Random, moment: str, day: datetime) -> str:
    """Some minutes later, but still on this day: the next one is not written yet."""
    later = datetime.fromisoformat(moment) + timedelta(minutes=rng.randint(3, 90))
    return min(later, day + timedelta(hours=23, minutes=59)).isoformat()
