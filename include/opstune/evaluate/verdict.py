"""The gate as a function of data: evidence per line in, a verdict with its reasons out. Pure.

A line that decides (kind ``bound``) stands in one of four ways, tried in this order:

1. not applicable: its skill is not in the test set, or there is nothing to compare with;
2. undecided: nobody scored it, or there are fewer cases than its minimum;
3. passed: the one-sided 95 % bound is on the right side of the threshold, even with the cases that could not be
   scored counted against the model;
4. failed, when the observed value is on the wrong side itself, or so close to the threshold that more than
   ``reach`` times the cases would be needed to tell; otherwise undecided, with how many more cases would tell.

A ``guard`` holds two models against each other. It also fails where the challenger is shown to be worse by a model
that nobody showed to be within the threshold, and below its minimum it is an alarm rather than undecided: too few
cases to prove that nothing was lost stop no retrain, a proven loss does. A ``point`` compares the observed value and
decides. An alarm compares it and decides nothing. One failed line rejects; else one undecided line, or none that
passed, means that nobody can say; else the model is promoted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from opstune.evaluate.champion import Against
from opstune.evaluate.evidence import DifferenceSeen, Evidence, Seen, ShareSeen
from opstune.evaluate.gates import Gate
from opstune.evaluate.lines import Decision, Line, Status, Verdict
from opstune.evaluate.statistics import cases_needed
from opstune.evaluate.wording import asked, name, told_with_unit

_PASSED = {"passed": True, "failed": False, "alarm": False}


def judge(gate: Gate, seen: Seen, reach: float) -> Line:
    """How one line stands. One that passes must pass with every unscored case counted against it as well."""
    found = _judge(gate, seen, reach)
    evidence = seen.evidence
    if not seen.unscored or found.status != "passed" or gate.kind == "alarm":
        return found
    if not isinstance(evidence, ShareSeen | DifferenceSeen):
        return found
    worst = _judge(gate, replace(seen, evidence=evidence.at_worst(gate.direction, seen.unscored)), reach)
    if worst.status == "passed":
        return found
    reason = (
        f"{found.reason}; but {seen.unscored} more cases could not be scored, and were they wrong it would not pass"
    )
    status = "alarm" if worst.status == "alarm" else "undecided"
    return found.model_copy(update={"status": status, "passed": _PASSED.get(status), "reason": reason})


def _judge(gate: Gate, seen: Seen, reach: float) -> Line:
    evidence = seen.evidence
    if evidence is None:
        return _line(gate, seen, "not_applicable", seen.absent, None)
    if evidence.n == 0:
        more = None if seen.absent else gate.minimum
        return _line(gate, seen, "undecided", seen.absent or "no case of the test set could be scored for it", more)
    if gate.kind == "alarm":
        holds = _right_side(gate, evidence.value)
        reason = f"{told_with_unit(gate, evidence.value)} where {asked(gate)} is hoped for; an alarm decides nothing"
        return _line(gate, seen, "passed" if holds else "alarm", reason, None)
    if gate.kind == "point":
        return _judge_point(gate, seen, evidence)
    if gate.kind == "guard" and (found := _judge_guard(gate, seen, evidence)):
        return found
    return _judge_bound(gate, seen, evidence, reach)


def judge_parity(evidence: DifferenceSeen, points: float, tested: float) -> Line:
    """What ships against what was tested, on the same cases: a drop of more than ``points`` fails.

    The observed drop decides, not a bound: the converted file answered these very cases, and every
    absolute line is proved on it again. ``tested`` is the tested model's share, shown as its base.
    """
    gate = Gate(
        skill="all", metric="correct", direction="above", threshold=-points / 100, kind="point", reference="over_base"
    )
    holds = evidence.value >= gate.threshold - 1e-12
    reason = f"{told_with_unit(gate, evidence.value)} against what was tested, and no more than {points:g} may be lost"
    line = _line(gate, Seen(evidence, base=tested), "passed" if holds else "failed", reason, None)
    return line.model_copy(update={"reference": "over_tested", "bound": None})


def _judge_point(gate: Gate, seen: Seen, evidence: Evidence) -> Line:
    if evidence.n < gate.minimum:
        return _too_few(gate, seen, evidence, gate.minimum)
    holds = _right_side(gate, evidence.value)
    reason = f"{told_with_unit(gate, evidence.value)} where {asked(gate)} is asked for, as observed"
    return _line(gate, seen, "passed" if holds else "failed", reason, None)


def _judge_guard(gate: Gate, seen: Seen, evidence: Evidence) -> Line | None:
    """What a guard says before it is a bound like any other; nothing where it is one."""
    bound, value = _bound(gate, evidence, evidence.n), told_with_unit(gate, evidence.value)
    if _right_side(gate, bound):
        return None
    worse = "less" if gate.direction == "above" else "more"
    if isinstance(evidence, DifferenceSeen) and evidence.shown == worse:
        reason = (
            f"{value}: {evidence.gained} gained and {evidence.lost} lost, which is worse beyond chance "
            f"(exact McNemar p = {evidence.p_value:.2g}), where {asked(gate)} is asked for"
        )
        return _line(gate, seen, "failed", reason, None)
    if evidence.n >= gate.minimum:
        return None
    needed = _needed(gate, evidence)
    reason = (
        f"{value}, and {evidence.n} cases prove {_proven(gate, bound)} only; {asked(gate)} is asked for, "
        f"which decides from {gate.minimum} cases on"
    )
    return _line(gate, seen, "alarm", reason, needed - evidence.n if needed else None)


def _judge_bound(gate: Gate, seen: Seen, evidence: Evidence, reach: float) -> Line:
    needed = _needed(gate, evidence)
    if evidence.n < gate.minimum and gate.kind == "bound":
        return _too_few(gate, seen, evidence, max(gate.minimum, needed or 0))
    bound, value = _bound(gate, evidence, evidence.n), told_with_unit(gate, evidence.value)
    proven = _proven(gate, bound)
    if _right_side(gate, bound):
        return _line(gate, seen, "passed", f"{proven}; asked for: {asked(gate)}", None)
    if not _right_side(gate, evidence.value):
        return _line(gate, seen, "failed", f"{value} where {asked(gate)} is asked for", None)
    if needed is None or needed > reach * evidence.n:
        reason = f"{value} is too close to {asked(gate)}: no reasonable number of cases would prove it"
        return _line(gate, seen, "failed", reason, None)
    reason = f"{value} would do, but {evidence.n} cases only prove {proven}; about {needed} would"
    return _line(gate, seen, "undecided", reason, needed - evidence.n)


def _too_few(gate: Gate, seen: Seen, evidence: Evidence, wanted: int) -> Line:
    reason = f"{evidence.n} cases, and below {gate.minimum} this line decides nothing"
    return _line(gate, seen, "undecided", reason, wanted - evidence.n)


def decide(lines: Sequence[Line], champion: Against | None = None) -> Verdict:
    """All lines together, with a sentence that a person can act on, and one about the champion."""
    decision, sentence = _decision(lines)
    told = f"{sentence} {champion.sentence}" if champion else sentence
    return Verdict(verdict=decision, sentence=told, lines=list(lines), champion=champion)


def _decision(lines: Sequence[Line]) -> tuple[Decision, str]:
    deciding = [line for line in lines if line.kind != "alarm"]
    failed = [line for line in deciding if line.status == "failed"]
    undecided = [line for line in deciding if line.status == "undecided"]
    passed = [line for line in deciding if line.status == "passed"]
    if failed:
        return "reject", _about("Rejected", failed, "fails", "fail")
    if undecided:
        more = max(line.more_cases or 0 for line in undecided)
        sentence = _about("Cannot say", undecided, "is undecided", "are undecided")
        if more:
            sentence += f" {more:,} more test cases would be enough at these rates."
        return "insufficient_data", sentence
    if not any(line.kind in ("bound", "guard") for line in passed):
        return "insufficient_data", "Cannot say: no line of the gate applies to this test set, so nothing was decided."
    alarms = [line for line in lines if line.status == "alarm"]
    sentence = f"Promoted: all {len(passed)} deciding lines that apply passed."
    if alarms:
        sentence += f" Alarms, which decide nothing: {', '.join(name(line) for line in alarms)}."
    return "promote", sentence


def _right_side(gate: Gate, value: float) -> bool:
    return value > gate.threshold if gate.direction == "above" else value < gate.threshold


def _proven(gate: Gate, bound: float) -> str:
    return (
        f"{'at least' if gate.direction == 'above' else 'at most'} {told_with_unit(gate, bound)} with 95 % confidence"
    )


def _bound(gate: Gate, evidence: Evidence, cases: int) -> float:
    """The evidence's bound, or infinitely far on the wrong side where it has none."""
    bound = evidence.bound(gate.direction, cases)
    return bound if bound is not None else (-math.inf if gate.direction == "above" else math.inf)


def _needed(gate: Gate, evidence: Evidence) -> int | None:
    """The fewest cases, from those at hand on, that would pass at the observed rate."""
    return cases_needed(lambda cases: _right_side(gate, _bound(gate, evidence, cases)), evidence.n)


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
        unit=seen.evidence.unit if seen.evidence else gate.unit,
        n=evidence.n if evidence else 0,
        value=evidence.value if evidence else None,
        bound=bound if bound is not None and math.isfinite(bound) else None,
        base=seen.base,
        champion=seen.champion,
        majority=seen.majority,
        status=status,
        passed=_PASSED.get(status),
        reason=reason,
        more_cases=more_cases,
    )
