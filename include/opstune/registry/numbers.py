"""Semantic versions: a new base is a major step, a full retrain a minor one, an incremental one a patch."""

from __future__ import annotations

from collections.abc import Iterable

from opstune.settings import Mode

Number = tuple[int, int, int]
FIRST = "1.0.0"


def parse(version: str) -> Number:
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def highest(versions: Iterable[str]) -> str | None:
    return max(versions, key=parse, default=None)


def following(taken: Iterable[str], mode: Mode, parent: str | None, base_changed: bool) -> str:
    """The next free version.

    Args:
        taken: every version that was ever given, registered or not promoted alike.
        parent: what an incremental retrain started from; its patch level is counted up.
        base_changed: the base differs from the highest version's.
    """
    taken = set(taken)
    latest = highest(taken)
    if latest is None:
        return FIRST
    major, minor, _ = parse(latest)
    if base_changed:
        return f"{major + 1}.0.0"
    if mode == "full":
        return f"{major}.{minor + 1}.0"
    line = parse(parent or latest)[:2]
    patch = max((number[2] for number in map(parse, taken) if number[:2] == line), default=-1) + 1
    return f"{line[0]}.{line[1]}.{patch}"
