"""Alert episodes out of the moments at which a series fired, fed one stretch of time after another. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from opstune.artifacts import fingerprint


@dataclass
class Episode:
    """One stretch of time during which one alert fired. ``start`` and ``last`` are the first and last evaluation at
    which it did, in milliseconds since 1970; ``actions`` are the keys of what is known to have been done about it."""

    labels: Mapping[str, str]
    start: int
    last: int
    actions: list[str] = field(default_factory=list)

    @property
    def alert(self) -> str:
        return self.labels.get("alertname", "")

    @cached_property
    def id(self) -> str:
        """The same for ever: the alert, its labels, and when it began."""
        return f"{self.alert}/{label_hash(self.labels)}/{iso(self.start)}"


class Episodes:
    """Grows episodes while samples come in order of time.

    ``gap`` gives the longest silence in milliseconds that does not end an episode of these labels. ``begun`` are
    episodes of before, as ``all`` gave them.
    """

    def __init__(self, gap: Callable[[Mapping[str, str]], int], begun: Iterable[Episode] = ()) -> None:
        self._gap = gap
        self._all: dict[str, list[Episode]] = {}
        for episode in sorted(begun, key=lambda one: one.start):
            self._all.setdefault(label_hash(episode.labels), []).append(episode)

    def add(self, labels: Mapping[str, str], moments: Iterable[int]) -> None:
        """Moments at which the alert with these labels fired; those that are known already change nothing."""
        gap = self._gap(labels)
        own = self._all.setdefault(label_hash(labels), [])
        for moment in sorted(moments):
            if own and moment - own[-1].last <= gap:
                own[-1].last = max(own[-1].last, moment)
            else:
                own.append(Episode(labels, moment, moment))

    def over(self, episode: Episode, heard: int) -> bool:
        """Whether it has ended for certain, once all samples before ``heard`` were added."""
        return episode.last + self._gap(episode.labels) < heard

    def all(self) -> list[Episode]:
        """Every episode that was not taken, by start."""
        return sorted((one for own in self._all.values() for one in own), key=lambda one: (one.start, one.id))

    def take(self, heard: int, wait: int = 0) -> list[Episode]:
        """Remove the episodes that are over and ended more than ``wait`` milliseconds before ``heard``; by start."""
        taken = [one for one in self.all() if self.over(one, heard) and one.last + wait < heard]
        gone = {id(one) for one in taken}
        self._all = {
            key: left for key, own in self._all.items() if (left := [one for one in own if id(one) not in gone])
        }
        return taken


def as_state(episode: Episode) -> dict[str, Any]:
    """An episode as JSON."""
    return {
        "labels": dict(episode.labels),
        "start": episode.start,
        "last": episode.last,
        "actions": list(episode.actions),
    }


def from_state(state: Mapping[str, Any]) -> Episode:
    """The opposite of ``as_state``."""
    return Episode(state["labels"], state["start"], state["last"], list(state["actions"]))


def label_hash(labels: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits that stand for a set of labels."""
    return fingerprint(dict(labels))[:16]


def iso(moment: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """A moment as milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
