"""The report of a gate: one HTML page, self-contained and without scripts, that one would show to a boss."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.evaluate.evaluate import CHALLENGER, CHAMPION, ROLES, Evaluation, Measured
from opstune.evaluate.metrics import ALL, INVALID, VALID, Share, share
from opstune.evaluate.predict import Prediction
from opstune.evaluate.verdict import Line, Verdict, asked, name, share_told, told
from opstune.examples import Example
from opstune.skills import get
from opstune.skills.base import target

_WORST = 10
_NEWLY_BROKEN = 10
_SLICED_BY = ("alert", "service", "severity", "status")
_LEAST_IN_SLICE = 5
_SLICES_SHOWN = 8
_BINS = 24
_EMBEDDED_BASE = "tiny-ops"
_STATUS_WORDS = {"undecided": "cannot say"}
#: Scores that tell of a fault when they hold.
_FAULTS = ("false_positive", "false_negative")


@dataclass(frozen=True)
class Material:
    """What a report is made of. ``tested`` is the evaluation before conversion, when this is the second gate."""

    verdict: Verdict
    evaluation: Evaluation
    tested: Evaluation | None
    predictions: Mapping[str, Sequence[Prediction]]
    examples: Sequence[Example]
    lineage: Sequence[Ref]

    @property
    def roles(self) -> dict[str, Measured]:
        """Every model that the gate looked at: base and champion from before conversion, where there was one."""
        return {**(self.tested.roles if self.tested else {}), **self.evaluation.roles}


def render(material: Material) -> str:
    """The page of one verdict."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=share_told, words=lambda text: str(text).replace("_", " "), capitalize_first=_capitalize_first
    )
    evaluation, roles = material.evaluation, material.roles
    return environment.get_template("report.html.j2").render(
        verdict=material.verdict,
        shipped=material.tested is not None,
        embedded=any(_EMBEDDED_BASE in role.engine for role in roles.values()),
        cases=evaluation.cases,
        overall=[(role, roles[role].metrics[ALL]["correct"]) for role in ROLES if role in roles],
        majority=_majority(evaluation),
        latency=evaluation.roles[CHALLENGER].latency,
        lines=[_line(line) for line in material.verdict.applying],
        not_applying=len(material.verdict.lines) - len(material.verdict.applying),
        decoding=_decoding(roles),
        confusion=_confusion(evaluation),
        slices=list(_slices(material)),
        histogram=_histogram([p.seconds * 1000 for p in material.predictions[CHALLENGER] if p.seconds is not None]),
        worst=_worst(material),
        champion=_against_champion(material),
        engines=roles,
        lineage=[_ancestor(ref) for ref in material.lineage],
    )


def _capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _majority(evaluation: Evaluation) -> dict[str, Any]:
    """What the commonest answer of each skill reaches, skill by skill and over all."""
    right = sum(found.metrics["correct"].k for found in evaluation.majority.values())
    return {"overall": share(right, sum(evaluation.cases.values())).value, "skills": evaluation.majority}


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": name(line),
        "asked": asked(line),
        "kind": {"bound": "", "alarm": "alarm", "point": "observed"}[line.kind],
        "n": f"{line.n:,}" if line.n else "–",
        "value": told(line, line.value, signed=line.unit == "difference"),
        "bound": told(line, line.bound, signed=line.unit == "difference"),
        "base": share_told(line.base),
        "champion": share_told(line.champion),
        "majority": share_told(line.majority),
        "status": line.status,
        "status_words": _STATUS_WORDS.get(line.status, line.status),
        "reason": line.reason,
        "more": line.more_cases,
        "plot": _plot(line),
    }


def _plot(line: Line) -> dict[str, float] | None:
    """Where value, bound and threshold lie on a scale of 0 to 100 with the threshold in its middle."""
    if line.value is None:
        return None
    middle = line.threshold
    room = max(min(middle, 1 - middle), 0.02)
    if line.unit == "milliseconds":
        room = middle
    elif line.unit == "difference":
        room = max(0.05, *(abs(x - middle) for x in (line.value, line.value if line.bound is None else line.bound)))
    low, high = middle - room, middle + room

    def place(x: float) -> float:
        return round(100 * min(1.0, max(0.0, (x - low) / (high - low))), 2)

    bound = line.value if line.bound is None else line.bound
    ends = sorted((place(bound), place(line.value)))
    return {
        "value": place(line.value),
        "from": ends[0],
        "to": ends[1],
        "good_from": 50.0 if line.direction == "above" else 0.0,
    }


def _decoding(roles: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """With and without the schema, on the same sampled cases."""
    return [
        {
            "role": role,
            "skill": skill,
            "metric": metric,
            "n": free.n,
            "free": free.value,
            "constrained": _value(measured.constrained_sample[skill].get(metric)),
        }
        for role, measured in roles.items()
        if role != CHAMPION
        for skill, metrics in sorted(measured.free.items(), key=lambda item: item[0] != ALL)
        for metric, free in metrics.items()
        if metric in (("correct", VALID) if skill == ALL else ("correct", "parameters"))
    ]


def _value(found: Share | None) -> float | None:
    return found.value if found else None


def _confusion(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Per skill the challenger's table: labels in order of how common they are, rows with shares for shading."""
    made = {}
    for skill, table in evaluation.roles[CHALLENGER].confusion.items():
        expected = sorted(table, key=lambda label: -sum(table[label].values()))
        found = {label for row in table.values() for label in row}
        columns = [*expected, *sorted(found - set(expected) - {INVALID}), *([INVALID] if INVALID in found else [])]
        rows = [
            {
                "label": label,
                "n": (n := sum(table[label].values())),
                "cells": [
                    {"count": (k := table[label].get(column, 0)), "share": k / n, "right": column == label}
                    for column in columns
                ],
            }
            for label in expected
        ]
        made[skill] = {"columns": columns, "rows": rows}
    return made


def _slices(material: Material) -> Iterator[dict[str, Any]]:
    """The weakest values of each field that cuts a skill's cases in at least two pieces."""
    examples = {example.id: example for example in material.examples}
    groups: dict[tuple[str, str], dict[str, Counter[bool]]] = defaultdict(lambda: defaultdict(Counter))
    for prediction in material.predictions[CHALLENGER]:
        example, right = examples[prediction.id], prediction.scores["correct"]
        fields = {"right answer": get(example.skill).label(example.answer)}
        fields |= {key: example.context[key] for key in _SLICED_BY if isinstance(example.context.get(key), str)}
        for field, value in fields.items():
            groups[example.skill, field][value][right] += 1
    for (skill, field), values in groups.items():
        told_of = {
            value: share(n[True], n.total()) for value, n in values.items() if n.total() >= _LEAST_IN_SLICE and value
        }
        if len(told_of) > 1:
            weakest = sorted(told_of.items(), key=lambda item: (item[1].value, -item[1].n))[:_SLICES_SHOWN]
            yield {"skill": skill, "field": field, "values": weakest, "of": len(told_of)}


def _histogram(milliseconds: Sequence[float]) -> dict[str, Any] | None:
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    longest = ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))]
    step = max(longest / _BINS, 1e-9)
    counts = Counter(min(int(value / step), _BINS - 1) for value in ordered)
    return {"counts": [counts[place] for place in range(_BINS)], "step": step, "longest": longest}


def _worst(material: Material) -> list[dict[str, Any]]:
    """Wrong answers, the gravest first: an action where none is right, no answer at all, then by how much is wrong."""

    def gravity(prediction: Prediction) -> tuple[bool, bool, int, str]:
        scores = prediction.scores
        wrong = sum(not holds for metric, holds in scores.items() if metric not in _FAULTS)
        return (not scores.get("false_positive"), scores[VALID], -wrong, prediction.id)

    wrong = sorted((p for p in material.predictions[CHALLENGER] if not p.scores["correct"]), key=gravity)
    return [_case(material, prediction) for prediction in wrong[:_WORST]]


def _against_champion(material: Material) -> dict[str, Any] | None:
    """Cases that the champion had right and the challenger has not, and how many it mended."""
    before = {p.id: p for p in material.predictions.get(CHAMPION, ())}
    if not before:
        return None
    both = [(p, before[p.id]) for p in material.predictions[CHALLENGER] if p.id in before]
    broken = [(new, old) for new, old in both if old.scores["correct"] and not new.scores["correct"]]
    mended = sum(new.scores["correct"] and not old.scores["correct"] for new, old in both)
    shown = [{**_case(material, new), "before": old.text} for new, old in broken[:_NEWLY_BROKEN]]
    return {"broken": len(broken), "mended": mended, "shown": shown}


def _case(material: Material, prediction: Prediction) -> dict[str, Any]:
    example = next(example for example in material.examples if example.id == prediction.id)
    faults = [
        metric for metric, holds in prediction.scores.items() if holds == (metric in _FAULTS) and metric != "correct"
    ]
    return {
        "id": prediction.id[:12],
        "skill": prediction.skill,
        "asked": get(example.skill).render(example.context),
        "expected": target(example.answer),
        "said": prediction.text or "(nothing)",
        "faults": faults,
    }


def _ancestor(ref: Ref) -> dict[str, Any]:
    """One stage in the line: what it holds and with what it was made; no path of the machine."""
    manifest = ref.manifest if artifacts.find(ref.path) else {}
    counts = [f"{key} {value:g}" for key, value in ref.counts.items() if "." not in key]
    return {
        "kind": ref.kind,
        "sha256": ref.sha256[:12],
        "counts": ", ".join(counts[:6]),
        "revision": manifest.get("git_revision", "files are gone"),
        "seconds": manifest.get("seconds"),
    }
