"""From what several people said about one example to one answer, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opstune.annotate.forms.base import Reading

State = Literal["answered", "cannot say", "undecided", "withdrawn"]
Same = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Said:
    """One annotation: who, when by the server's clock, and what."""

    annotation: int
    by: str
    at: str
    reading: Reading


@dataclass(frozen=True)
class Decision:
    """``reading`` is the answer that counts, with the lowest rating and all notes of those who gave it."""

    state: State
    reading: Reading | None = None
    by: tuple[str, ...] = ()


def latest(said: Sequence[Said]) -> list[Said]:
    """The last annotation of each person, in the order of time."""
    by_person = {one.by: one for one in sorted(said, key=lambda one: (one.at, one.annotation))}
    return sorted(by_person.values(), key=lambda one: (one.at, one.annotation))


def decide(said: Sequence[Said], same: Same) -> Decision:
    """The answer of more than half of the people, where their answers teach the same.

    ``said`` holds each person's last annotation. Of the majority the last wording counts.
    """
    label, votes = Counter(one.reading.label for one in said).most_common(1)[0]
    agreeing = [one for one in said if one.reading.label == label]
    last = agreeing[-1].reading
    if votes * 2 <= len(said):
        return Decision("undecided")
    if last.answer is None:
        return Decision("cannot say", by=tuple(one.by for one in agreeing))
    if not all(same(one.reading.answer or {}, last.answer) for one in agreeing):
        return Decision("undecided")
    ratings = [one.reading.rating for one in agreeing if one.reading.rating]
    notes = "\n".join(dict.fromkeys(one.reading.notes for one in agreeing if one.reading.notes))
    told = Reading(last.label, last.answer, min(ratings, default=None), notes, ratings=last.ratings)
    return Decision("answered", told, tuple(one.by for one in agreeing))
