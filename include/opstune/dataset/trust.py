"""How far feedback is trusted: anybody who can rate an answer could teach the model through it.

Poisoning needs many examples or much weight, and time that nobody looks. So each piece of feedback waits, is
reviewed by a second person, and counts within limits: per person, and per batch (one person's week, or one
named import) of a skill's training data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from opstune.dataset.validate import Drop
from opstune.examples import Example
from opstune.settings import FeedbackSettings

NAMELESS = "feedback that does not say whose it is"
UNRATED = "feedback rated below the minimum, or not at all"
UNREVIEWED = "feedback that no second person has reviewed"
QUARANTINED = "feedback that is in quarantine"
OVER_USER = "feedback over the limit of one person"
OVER_BATCH = "feedback over the influence of one batch"


def newest(records: Sequence[Example], feedback: FeedbackSettings) -> datetime | None:
    """The moment against which feedback is young: the newest record of other sources.

    Of all sources where there is no other. Feedback with a date in the future cannot end its own quarantine.
    """
    others = [record.occurred_at for record in records if record.source not in feedback.sources]
    return max(others or [record.occurred_at for record in records], default=None)


def admitted(
    examples: Sequence[Example], feedback: FeedbackSettings, moment: datetime | None, tested: Collection[str]
) -> tuple[list[Example], list[Drop]]:
    """The examples without feedback that may not teach (yet), and that feedback with reasons.

    Of one person's the oldest count, so that a flood never displaces what was there; before them those in
    ``tested`` (ids), because what is once in test stays.
    """
    kept, dropped = [], []
    for example in examples:
        reason, detail = _unfit(example, feedback, moment) if example.source in feedback.sources else ("", "")
        if reason:
            dropped.append(Drop.of(example, reason, detail))
        else:
            kept.append(example)
    mine = [example for example in kept if example.source in feedback.sources]
    over: set[str] = set()
    for person, theirs in _by(person_of, mine).items():
        theirs.sort(key=lambda example: (example.id not in tested, example.occurred_at, example.id))
        for example in theirs[feedback.per_user :]:
            over.add(example.id)
            dropped.append(Drop.of(example, OVER_USER, f"more than {feedback.per_user} of {person}"))
    return [example for example in kept if example.id not in over], dropped


def bounded(rows: Sequence[Example], feedback: FeedbackSettings) -> tuple[list[Example], list[Drop]]:
    """Training rows in which no batch of feedback makes more than ``max_influence`` of a skill's.

    A repeated example counts as often as it stands there, and goes as a whole. The oldest of a batch stay. What
    goes makes the skill smaller and with it every batch's share, so this repeats until all hold.
    """
    kept, dropped = list(rows), dict[str, Drop]()
    while gone := _over(kept, week_of, feedback) or _over(kept, batch_of, feedback):
        dropped |= gone
        kept = [row for row in kept if row.id not in gone]
    return kept, list(dropped.values())


def influence(rows: Sequence[Example], feedback: FeedbackSettings) -> dict[str, Any]:
    """How much of the training rows is feedback, and how much of each skill comes from each person and batch.

    ``share`` is of all rows at the top, and of the skill's rows in ``users`` and ``batches``, largest first.
    """
    totals = Counter(row.skill for row in rows)
    mine = [row for row in rows if row.source in feedback.sources]

    def shares(of: Callable[[Example], str], name: str) -> list[dict[str, Any]]:
        counts = Counter((of(row), row.skill) for row in mine if of(row))
        found = [
            {name: key, "skill": skill, "examples": n, "share": n / totals[skill]} for (key, skill), n in counts.items()
        ]
        return sorted(found, key=lambda entry: (-entry["share"], entry[name], entry["skill"]))

    return {
        "examples": len(mine),
        "share": len(mine) / len(rows) if rows else 0.0,
        "limit": feedback.max_influence,
        "users": shares(person_of, "user"),
        "batches": shares(week_of, "batch") + shares(batch_of, "batch"),
    }


def person_of(example: Example) -> str:
    """Who gave the feedback, however it is spelt."""
    return (example.annotator or "").strip().casefold()


def week_of(example: Example) -> str:
    """One person's ISO week."""
    year, week, _ = example.occurred_at.isocalendar()
    return f"{person_of(example)} {year}-W{week:02d}"


def batch_of(example: Example) -> str:
    """The import that brought it, where the source names one."""
    return str(example.metadata.get("batch") or "")


def _unfit(example: Example, feedback: FeedbackSettings, moment: datetime | None) -> tuple[str, str]:
    if not person_of(example):
        return NAMELESS, ""
    if example.rating is None or example.rating < feedback.minimum_rating:
        return UNRATED, f"rated {example.rating or 'not at all'}"
    if feedback.reviewed and not (example.human_validated and _reviewers(example) - {person_of(example)}):
        return UNREVIEWED, ""
    if moment and moment - example.occurred_at < timedelta(days=feedback.quarantine_days):
        return QUARANTINED, f"younger than {feedback.quarantine_days:g} days"
    return "", ""


def _reviewers(example: Example) -> set[str]:
    named = example.metadata.get("reviewed_by") or []
    return {str(name).strip().casefold() for name in ([named] if isinstance(named, str) else named)} - {""}


def _over(rows: Sequence[Example], of: Callable[[Example], str], feedback: FeedbackSettings) -> dict[str, Drop]:
    """What goes first: of every batch in a skill what is beyond its share of the skill's rows."""
    totals = Counter(row.skill for row in rows)
    mine = [row for row in rows if row.source in feedback.sources and of(row)]
    gone: dict[str, Drop] = {}
    for (skill, batch), theirs in _by(lambda row: (row.skill, of(row)), mine).items():
        room = int(feedback.max_influence * totals[skill] + 1e-9)
        theirs.sort(key=lambda row: (row.occurred_at, row.id))
        detail = f"{batch}: more than {feedback.max_influence:.0%} of {skill}"
        gone |= {row.id: Drop.of(row, OVER_BATCH, detail) for row in theirs[room:]}
    return gone


def _by(of: Callable[[Example], Any], examples: Sequence[Example]) -> dict[Any, list[Example]]:
    found: defaultdict[Any, list[Example]] = defaultdict(list)
    for example in examples:
        found[of(example)].append(example)
    return found
