"""The gate as a function of data: evidence per line in, a verdict with its reasons out. Pure.

A line that decides (kind ``bound``) stands in one of four ways, tried in this order:

1. not applicable: its skill is not in the test set, or there is nothing to compare with;
2. undecided: fewer cases than its minimum;
3. passed: the one-sided 95 % bound is on the right side of the threshold;
4. failed, when the observed value is on the wrong side itself, or so close to the threshold that more than
   ``reach`` times the cases would be needed to tell; otherwise undecided, with how many more cases would tell.

An alarm compares the observed value and decides nothing. One failed line rejects; else one undecided line, or
none that passed, means that nobody can say; else the model is promoted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from opstune.evaluate.gates import LATENCY_P95, Direction, Gate, Reference
from opstune.evaluate.metrics import Frozen
from opstune.evaluate.statistics import (
    cases_needed,
    difference_bounds,
    lower_bound,
    quantile_upper_bound,
    upper_bound,
)

Decision = Literal["promote", "reject", "insufficient_data"]
Status = Literal["passed", "failed", "undecided", "alarm", "not_applicable"]
Unit = Literal["share", "difference", "milliseconds"]


class Evidence(Protocol):
    """What was observed for one line."""

    @property
    def n(self) -> int: ...

    @property
    def value(self) -> float: ...

    @property
    def unit(self) -> Unit: ...

    def bound(self, direction: Direction, cases: int) -> float:
        """The one-sided 95 % bound that ``cases`` cases at the observed rate give."""
        ...


@dataclass(frozen=True)
class ShareSeen:
    """``k`` of ``n`` cases."""

    k: int
    n: int
    unit: Unit = "share"

    @property
    def value(self) -> float:
        return self.k / self.n

    def bound(self, direction: Direction, cases: int) -> float:
        right = self.k * cases / self.n
        return lower_bound(right, cases) if direction == "above" else upper_bound(right, cases)


@dataclass(frozen=True)
class DifferenceSeen:
    """Two models on the same ``n`` cases: ``gained`` hold only for the challenger, ``lost`` only for the other."""

    gained: int
    lost: int
    n: int
    unit: Unit = "difference"

    @property
    def value(self) -> float:
        return (self.gained - self.lost) / self.n

    def bound(self, direction: Direction, cases: int) -> float:
        scale = cases / self.n
        lower, upper = difference_bounds(self.gained * scale, self.lost * scale, cases)
        return lower if direction == "above" else upper


@dataclass(frozen=True)
class LatencySeen:
    """Milliseconds of single requests, ascending; there is only an upper bound."""

    ordered: tuple[float, ...]
    unit: Unit = "milliseconds"

    @property
    def n(self) -> int:
        return len(self.ordered)

    @property
    def value(self) -> float:
        return self.ordered[math.ceil(0.95 * self.n) - 1]

    def bound(self, direction: Direction, cases: int) -> float:
        return quantile_upper_bound(self.ordered, 0.95, cases)


@dataclass(frozen=True)
class Seen:
    """Evidence for one line, or why there is none; beside it, for the reader, what others reach on the same metric."""

    evidence: Evidence | None
    absent: str = ""
    base: float | None = None
    champion: float | None = None
    majority: float | None = None


class Line(Frozen):
    """One line of a verdict. Of kind ``point`` is only parity: the same cases, before and after conversion."""

    skill: str
    metric: str
    direction: Direction
    threshold: float
    kind: Literal["bound", "alarm", "point"]
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
    verdict: Decision
    sentence: str
    lines: list[Line]

    @property
    def applying(self) -> list[Line]:
        """The lines that say something of this model: without those of skills that it was not taught."""
        return [line for line in self.lines if line.status != "not_applicable"]


def judge(gate: Gate, seen: Seen, reach: float) -> Line:
    """How one line stands."""
    evidence = seen.evidence
    if evidence is None:
        return _line(gate, seen, "not_applicable", seen.absent, None)
    if evidence.n == 0:
        return _line(gate, seen, "undecided", "no case of the test set could be scored for it", gate.minimum)
    if gate.kind == "alarm":
        holds = _right_side(gate, evidence.value)
        reason = f"{_told(gate, evidence.value)} where {asked(gate)} is hoped for; an alarm decides nothing"
        return _line(gate, seen, "passed" if holds else "alarm", reason, None)
    needed = cases_needed(lambda cases: _right_side(gate, evidence.bound(gate.direction, cases)), evidence.n)
    if evidence.n < gate.minimum:
        more = max(gate.minimum, needed or 0) - evidence.n
        reason = f"{evidence.n} cases, and below {gate.minimum} this line decides nothing"
        return _line(gate, seen, "undecided", reason, more)
    bound = evidence.bound(gate.direction, evidence.n)
    proven = f"{'at least' if gate.direction == 'above' else 'at most'} {_told(gate, bound)} with 95 % confidence"
    if _right_side(gate, bound):
        return _line(gate, seen, "passed", f"{proven}; asked for: {asked(gate)}", None)
    if not _right_side(gate, evidence.value):
        return _line(gate, seen, "failed", f"{_told(gate, evidence.value)} where {asked(gate)} is asked for", None)
    if needed is None or needed > reach * evidence.n:
        reason = (
            f"{_told(gate, evidence.value)} is too close to {asked(gate)}: no reasonable number of cases would prove it"
        )
        return _line(gate, seen, "failed", reason, None)
    reason = f"{_told(gate, evidence.value)} would do, but {evidence.n} cases only prove {proven}; about {needed} would"
    return _line(gate, seen, "undecided", reason, needed - evidence.n)


def judge_parity(evidence: DifferenceSeen, points: float, tested: float) -> Line:
    """What ships against what was tested, on the same cases: a drop of more than ``points`` fails.

    The observed drop decides, not a bound: the converted file answered these very cases, and every
    absolute line is proved on it again. ``tested`` is the tested model's share, shown as its base.
    """
    gate = Gate(skill="all", metric="correct", direction="above", threshold=-points / 100)
    holds = evidence.value >= gate.threshold - 1e-12
    reason = f"{_told(gate, evidence.value, signed=True)} points against what was tested; {points:g} may be lost"
    line = _line(gate, Seen(evidence, base=tested), "passed" if holds else "failed", reason, None)
    return line.model_copy(update={"kind": "point", "reference": "over_tested", "bound": None})


def decide(lines: Sequence[Line]) -> Verdict:
    """All lines together, with one sentence that a person can act on."""
    deciding = [line for line in lines if line.kind != "alarm"]
    failed = [line for line in deciding if line.status == "failed"]
    undecided = [line for line in deciding if line.status == "undecided"]
    passed = [line for line in deciding if line.status == "passed"]
    if failed:
        return Verdict(verdict="reject", sentence=_about("Rejected", failed, "fails", "fail"), lines=list(lines))
    if undecided:
        more = max(line.more_cases or 0 for line in undecided)
        sentence = _about("Cannot say", undecided, "is undecided", "are undecided")
        if more:
            sentence += f" {more:,} more test cases would be enough at these rates."
        return Verdict(verdict="insufficient_data", sentence=sentence, lines=list(lines))
    if not any(line.kind == "bound" for line in passed):
        sentence = "Cannot say: no line of the gate applies to this test set, so nothing was decided."
        return Verdict(verdict="insufficient_data", sentence=sentence, lines=list(lines))
    alarms = [line for line in lines if line.status == "alarm"]
    sentence = f"Promoted: all {len(passed)} deciding lines that apply passed."
    if alarms:
        sentence += f" Alarms, which decide nothing: {', '.join(name(line) for line in alarms)}."
    return Verdict(verdict="promote", sentence=sentence, lines=list(lines))


def name(line: Line | Gate) -> str:
    """A line in words: ``remediation function``, ``all correct over base``."""
    words = [
        line.skill.replace("_", " "),
        "p95 latency" if line.metric == LATENCY_P95 else line.metric.replace("_", " "),
    ]
    if line.reference != "absolute":
        words.append(line.reference.replace("_", " "))
    return " ".join(words)


def asked(line: Line | Gate) -> str:
    """What a line asks for, in words: ``more than 90 %``, ``no more than 2 points below the champion``."""
    if line.reference == "absolute":
        return f"{'more' if line.direction == 'above' else 'less'} than {threshold_told(line)}"
    other = {"over_base": "the base", "over_champion": "the champion", "over_tested": "what was tested"}[line.reference]
    points = f"{abs(line.threshold) * 100:g}"
    margin = f"{points} {'point' if points == '1' else 'points'}"
    if (line.threshold < 0) == (line.direction == "above"):
        side = "below" if line.direction == "above" else "above"
        return f"less than {margin} {side} {other}"
    return f"more than {margin} {'above' if line.direction == 'above' else 'below'} {other}"


def told(line: Line | Gate, value: float | None, signed: bool = False) -> str:
    """A value in the line's unit: percent, points or milliseconds."""
    if value is None:
        return "–"
    if line.metric == LATENCY_P95:
        return f"{value:.0f} ms" if math.isfinite(value) else "any time"
    if line.reference != "absolute" or signed:
        return f"{value * 100:+.1f}" if abs(value) >= 0.0005 else "0.0"
    return f"{value * 100:.1f} %"


def threshold_told(line: Line | Gate) -> str:
    """The threshold as it was written: ``90 %``, ``-2 points``, ``500 ms``."""
    if line.metric == LATENCY_P95:
        return f"{line.threshold:g} ms"
    return f"{line.threshold * 100:g} %" if line.reference == "absolute" else f"{line.threshold * 100:+g}"


def gate_table(verdict: Verdict) -> list[dict[str, str]]:
    """Rows for a terminal, of the lines that apply: line, n, value, bound, threshold, base, champion, passed."""
    status = {"passed": "yes", "failed": "NO", "undecided": "cannot say", "alarm": "alarm"}
    return [
        {
            "line": name(line),
            "n": f"{line.n:,}" if line.n else "–",
            "value": told(line, line.value),
            "bound": told(line, line.bound),
            "threshold": f"{'>' if line.direction == 'above' else '<'} {threshold_told(line)}",
            "base": share_told(line.base),
            "champion": share_told(line.champion),
            "passed": status[line.status],
        }
        for line in verdict.applying
    ]


def share_told(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def _right_side(gate: Gate, value: float) -> bool:
    return value > gate.threshold if gate.direction == "above" else value < gate.threshold


def _told(gate: Gate, value: float, signed: bool = False) -> str:
    words = told(gate, value, signed)
    return f"{words} points" if gate.reference != "absolute" else words


def _about(opening: str, lines: Sequence[Line], one: str, many: str) -> str:
    first, rest = lines[0], lines[1:]
    sentence = f"{opening}: {name(first)}: {first.reason}."
    if rest:
        sentence += f" {len(rest)} more {one if len(rest) == 1 else many}: {', '.join(name(line) for line in rest)}."
    return sentence


def _line(gate: Gate, seen: Seen, status: Status, reason: str, more_cases: int | None) -> Line:
    evidence = seen.evidence if seen.evidence and seen.evidence.n else None
    bound = evidence.bound(gate.direction, evidence.n) if evidence else None
    return Line(
        skill=gate.skill,
        metric=gate.metric,
        direction=gate.direction,
        threshold=gate.threshold,
        kind=gate.kind,
        reference=gate.reference,
        unit=seen.evidence.unit if seen.evidence else "share",
        n=evidence.n if evidence else 0,
        value=evidence.value if evidence else None,
        bound=bound if bound is not None and math.isfinite(bound) else None,
        base=seen.base,
        champion=seen.champion,
        majority=seen.majority,
        status=status,
        passed={"passed": True, "failed": False, "alarm": False}.get(status),
        reason=reason,
        more_cases=more_cases,
    )
