"""What was done about each alert: actions are given to episodes by alert, labels and time, and one becomes the
answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opstune.collect.alerts.episodes import Episode, iso, label_hash
from opstune.examples import Outcome
from opstune.skills.functions import NONE


@dataclass(frozen=True)
class Action:
    """Something that was done about an alert, at ``at`` milliseconds since 1970.

    ``key`` is unique among all actions. Without ``function`` it is known in words only (``notes``). ``agree_on`` are
    labels that an episode must have in common with it.
    """

    key: str
    at: int
    alert: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    function: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    outcome: Outcome = "unknown"
    by: str | None = None
    incident: str | None = None
    notes: str | None = None
    agree_on: Sequence[str] = ()


def join(actions: Iterable[Action], episodes: Sequence[Episode], slack: int) -> list[tuple[Action, Episode]]:
    """Each action with the one episode that it belongs to, where there is one.

    It fits an episode of its alert whose labels agree with its own wherever both have one, if it was done between
    ``slack`` milliseconds before the start and after the end. An action that names no alert must agree on labels
    that its source was told to compare. Of several the nearest in time counts, then the one with the most labels in
    common, then the one that began last.
    """
    by_alert: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_alert.setdefault(episode.alert, []).append(episode)
    joined = []
    for action in actions:
        near = by_alert.get(action.alert, []) if action.alert else episodes
        fitting = [episode for episode in near if _away(action, episode) <= slack and _agrees(action, episode)]
        if fitting:
            nearest = min(fitting, key=lambda one: (_away(action, one), -_shared(action, one), -one.start, one.id))
            joined.append((action, nearest))
    return joined


def answer(actions: Iterable[Action]) -> Action | None:
    """What is taught about an episode: the last action that succeeded, else the last of unknown outcome.

    Doing nothing (``none``) is the answer only where nothing else was tried: after a failed attempt it says nothing
    about the alert. An action in words only comes last; one that failed is never the answer.
    """
    known = sorted(actions, key=lambda one: (one.at, one.key))
    tried = [one for one in known if one.function not in (None, NONE)]
    for outcome in ("success", "unknown"):
        fitting = [one for one in tried or known if one.outcome == outcome and one.function]
        if fitting:
            return fitting[-1]
    told = [one for one in known if one.function is None and one.outcome != "failure"]
    return told[-1] if told else None


def failures(actions: Iterable[Action]) -> list[Action]:
    """The actions that were tried and failed: each is a record of its own, so that nobody proposes it again."""
    return [one for one in actions if one.outcome == "failure" and one.function]


def group(episode: Episode, actions: Sequence[Action]) -> str:
    """The incident that an episode belongs to, for the split: that of its first action, else this alert on that day.

    An alert that comes and goes with the same labels is one story and must not stand on two sides.
    """
    by_time = sorted(actions, key=lambda one: (one.at, one.key))
    incidents = [action.incident for action in by_time if action.incident]
    return incidents[0] if incidents else f"{episode.alert}/{label_hash(episode.labels)}/{iso(episode.start)[:10]}"


def records(
    episode: Episode, actions: Sequence[Action], firing: bool, annotations: Mapping[str, str], status: str
) -> list[dict[str, Any]]:
    """The raw records of an episode: the episode itself with its answer, where one is known, and one record for each
    action that failed. Such a record is named by its action alone: which episode it belongs to may yet change."""
    base = {
        "id": episode.id,
        "episode": episode.id,
        "incident": group(episode, actions),
        "alert": episode.alert,
        "labels": dict(episode.labels),
        "annotations": dict(annotations),
        "status": status,
        "starts_at": iso(episode.start),
        "ends_at": None if firing else iso(episode.last),
        "minutes": None if firing else round((episode.last - episode.start) / 60_000, 3),
        "outcome": "unknown",
        "action": None,
    }
    done = answer(actions)
    of_failures = [{**base, "id": failed.key, **_told(failed)} for failed in failures(actions)]
    return [{**base, **(_told(done) if done else {})}, *of_failures]


def _told(action: Action) -> dict[str, Any]:
    told = {
        "key": action.key,
        "at": iso(action.at),
        "function": action.function,
        "parameters": dict(action.parameters),
        "by": action.by,
        "notes": action.notes,
    }
    return {"outcome": action.outcome if action.function else "unknown", "action": told}


def _away(action: Action, episode: Episode) -> int:
    """Milliseconds between an action and an episode; 0 while it fires."""
    return max(episode.start - action.at, action.at - episode.last, 0)


def _agrees(action: Action, episode: Episode) -> bool:
    if not (action.alert or action.agree_on):
        return False
    if any(key not in action.labels or key not in episode.labels for key in action.agree_on):
        return False
    return all(episode.labels[key] == value for key, value in action.labels.items() if key in episode.labels)


def _shared(action: Action, episode: Episode) -> int:
    return len(action.labels.keys() & episode.labels.keys())
