"""A verdict in words and rows: what a line is called, what it asks for, and values in its unit."""

from __future__ import annotations

import math

from opstune.evaluate.figures import points_told, share_told
from opstune.evaluate.gates import BLEU, LATENCY_P95, ROUGE_L, Gate
from opstune.evaluate.lines import Line, Verdict
from opstune.evaluate.metrics import ALL, VALID

_NAMES = {LATENCY_P95: "p95 latency", BLEU: "BLEU", ROUGE_L: "ROUGE-L", VALID: "valid JSON"}
_OTHERS = {"over_base": "the base", "over_champion": "the champion", "over_tested": "what was tested"}
_PASSED = {"passed": "yes", "failed": "NO", "undecided": "cannot say", "alarm": "alarm"}


def name(line: Line | Gate) -> str:
    """A line in words: ``remediation function``, ``all correct over base``, ``all correct once converted``."""
    words = [_NAMES.get(line.metric, line.metric.replace("_", " "))]
    if line.skill != ALL or line.metric in ("correct", VALID):
        words.insert(0, line.skill.replace("_", " "))
    if line.reference != "absolute":
        words.append("once converted" if line.reference == "over_tested" else line.reference.replace("_", " "))
    return " ".join(words)


def asked(line: Line | Gate) -> str:
    """What a line asks for, in words: ``more than 90 %``, ``less than 2 points below the champion``."""
    if line.reference == "absolute":
        return f"{'more' if line.direction == 'above' else 'less'} than {threshold_told(line)}"
    points = f"{abs(line.threshold) * 100:g}"
    margin = f"{points} {'point' if points == '1' else 'points'}"
    if (line.threshold < 0) == (line.direction == "above"):
        side = "below" if line.direction == "above" else "above"
        return f"less than {margin} {side} {_OTHERS[line.reference]}"
    return f"more than {margin} {'above' if line.direction == 'above' else 'below'} {_OTHERS[line.reference]}"


def told(line: Line | Gate, value: float | None) -> str:
    """A value in the line's unit: percent, points, milliseconds or a plain number."""
    if value is None:
        return "–"
    if line.unit == "milliseconds":
        return f"{value:.0f} ms" if math.isfinite(value) else "any time"
    if line.unit == "number":
        return f"{value:.2f}"
    if line.unit == "difference":
        return points_told(value)
    return share_told(value)


def told_with_unit(line: Line | Gate, value: float) -> str:
    """As ``told``, with the word that a bare difference lacks."""
    return f"{told(line, value)} points" if line.unit == "difference" else told(line, value)


def threshold_told(line: Line | Gate) -> str:
    """The threshold as it was written: ``90 %``, ``-2``, ``500 ms``, ``10``."""
    if line.unit == "milliseconds":
        return f"{line.threshold:g} ms"
    if line.unit == "number":
        return f"{line.threshold:g}"
    return f"{line.threshold * 100:g} %" if line.unit == "share" else f"{line.threshold * 100:+g}"


def gate_table(verdict: Verdict) -> list[dict[str, str]]:
    """Rows for a terminal, of the lines that apply: line, n, value, bound, threshold, base, champion, passed."""
    return [
        {
            "line": name(line),
            "n": f"{line.n:,}" if line.n else "–",
            "value": told(line, line.value),
            "bound": told(line, line.bound),
            "threshold": f"{'>' if line.direction == 'above' else '<'} {threshold_told(line)}",
            "base": other_told(line, line.base),
            "champion": other_told(line, line.champion),
            "passed": _PASSED[line.status],
        }
        for line in verdict.applying
    ]


def other_told(line: Line | Gate, value: float | None) -> str:
    """What another model reaches: a difference is of shares, so its sides are told as shares."""
    return share_told(value) if line.unit == "difference" else told(line, value)
