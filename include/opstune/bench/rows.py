"""What a row is: a function that measures one figure, under a fixed name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Measured:
    """One figure: ``ratio`` is value over baseline, ``n`` how many things were measured."""

    value: float
    unit: str
    baseline: float | None
    n: int

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None


Measure = Callable[[], Measured]
ROWS: dict[str, Measure] = {}
#: Rows that take too long to be part of all.
ON_REQUEST: set[str] = set()


def row(name: str, on_request: bool = False) -> Callable[[Measure], Measure]:
    """Register a row under its fixed name."""

    def register(measure: Measure) -> Measure:
        ROWS[name] = measure
        if on_request:
            ON_REQUEST.add(name)
        return measure

    return register


def last_line(command: list[str]) -> str:
    """The last line that a program printed; what it writes to standard error is shown.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]


def python(*arguments: str) -> str:
    """The last line that a fresh interpreter printed."""
    return last_line([sys.executable, *arguments])
