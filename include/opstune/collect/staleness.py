"""How old each source is: what a retrain says, and when it refuses to go on without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opstune.collect import watermark
from opstune.collect.pulling import SourceReport
from opstune.errors import DataError

_DAY = 86_400
_TOLD_IN_HOURS = 2


@dataclass(frozen=True)
class Age:
    """A source and the days since it was last read to its end; ``days`` is none where it never was."""

    source: str
    days: float | None
    off: str = ""

    def __str__(self) -> str:
        if self.off:
            return f"{self.source}: off, {self.off}"
        if self.days is None:
            return f"{self.source}: never read to its end"
        age = f"{self.days * 24:.1f} hours" if self.days < _TOLD_IN_HOURS else f"{self.days:.1f} days"
        return f"{self.source}: read {age} ago"


def ages(sources: Iterable[str], store: Path, reports: Sequence[SourceReport], now: datetime) -> list[Age]:
    """The age of each source by its watermark; ``reports`` tells which are off."""
    off = {report.source: report.off for report in reports if report.off}
    found = []
    for source in sources:
        mark = watermark.load(store, source)
        read = mark.collected_at if mark else None
        found.append(Age(source, (now - read).total_seconds() / _DAY if read else None, off.get(source, "")))
    return found


def refuse_stale(found: Iterable[Age], max_days: float) -> None:
    """Go on only while every connected source that was ever read was read within ``max_days``.

    A source that was never read has nothing that could be missed, and one that is off is nobody's loss.

    Raises:
        DataError: names each source that is older.
    """
    stale = [age for age in found if not age.off and age.days is not None and age.days > max_days]
    if stale:
        told = ", ".join(f"{age.source} ({age.days:.1f} days)" for age in stale)
        what = f"too long since these were last read: {told}; collect.max_staleness_days is {max_days:g}"
        todo = "Mend the source (`opstune sources check` says what is wrong), or raise the limit, and clear this task."
        raise DataError(what, "collect", todo)
