"""What a verdict is made of: a line of the gate as it stands, and all of them under one decision."""

from __future__ import annotations

from typing import Literal

from opstune.evaluate.champion import Against
from opstune.evaluate.gates import Direction, Kind, Reference, Unit
from opstune.evaluate.metrics import Frozen

Decision = Literal["promote", "reject", "insufficient_data"]
Status = Literal["passed", "failed", "undecided", "alarm", "not_applicable"]


class Line(Frozen):
    """One line of a verdict. ``over_tested`` is parity: the same cases, before and after conversion."""

    skill: str
    metric: str
    direction: Direction
    threshold: float
    kind: Kind
    reference: Reference | Literal["over_tested"]
    unit: Unit
    n: int
    value: float | None
    bound: float | None
    base: float | None
    champion: float | None
    majority: float | None
    status: Status
    passed: bool | None
    reason: str
    more_cases: int | None


class Verdict(Frozen):
    """``champion`` is the comparison with it, none where there is no champion."""

    verdict: Decision
    sentence: str
    lines: list[Line]
    champion: Against | None = None

    @property
    def applying(self) -> list[Line]:
        """The lines that say something of this model: without those of skills that it was not taught."""
        return [line for line in self.lines if line.status != "not_applicable"]
