"""How far people are: what a retrain that waits for annotation asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opstune.annotate import projects
from opstune.annotate.server import Server
from opstune.settings import Connection, Patience


class Progress(NamedTuple):
    """Tasks of one project that are done, answered or skipped by as many people as were asked, of all."""

    project: str
    done: int
    total: int


def progress(names: Sequence[str], connection: Connection, patience: Patience) -> list[Progress]:
    """The progress of every project that is there.

    Raises:
        ServiceDown, Throttled, AccessDenied, ConfigError: as Label Studio answers.
    """
    found = []
    with Server(connection, patience) as server:
        for name in names:
            if made := projects.find(server, name):
                found.append(Progress(name, *server.counts(made.id)))
    return found


def told(now: Sequence[Progress], goal: Mapping[str, int]) -> str:
    """One line for a log: how many of how many, in all and in each project where something was open."""
    done = {one.project: min(one.done, goal.get(one.project, 0)) for one in now}
    by_project = ", ".join(
        f"{project} {count} of {goal[project]}" for project, count in done.items() if goal.get(project)
    )
    total = f"{sum(done.values())} of {sum(goal.values())} tasks are done in Label Studio"
    return f"{total} ({by_project})" if by_project else total


def missing(now: Sequence[Progress], goal: Mapping[str, int]) -> int:
    """How many tasks are still to be done until as many are done in each project as ``goal`` says."""
    return sum(max(goal.get(one.project, 0) - one.done, 0) for one in now)
