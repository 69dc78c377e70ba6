"""Tables and pictures of a report: what is taken for what, where a model is weak, how its latencies spread. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from opstune.evaluate.metrics import ALL, INVALID, share
from opstune.evaluate.predict import Prediction
from opstune.examples import Example

_LEAST_IN_SLICE = 5
_SLICES_SHOWN = 8
_BINS = 32
#: Days before the newest case, and what such cases are called.
_AGES = ((7, "newest 7 days"), (30, "8 to 30 days before"), (90, "31 to 90 days before"))
_OLDER = "older"


def confusion(tables: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, Any]]:
    """Per skill: numbered labels in their order, others by how common they are; rows with shares for shading."""
    made = {}
    for skill, table in tables.items():
        ranked = all(label[-1:].isdigit() for label in table)  # SEV-0 beside SEV-1: how far off shows at a glance
        expected = sorted(table) if ranked else sorted(table, key=lambda label: -sum(table[label].values()))
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


def slices(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Each field that cuts a skill's cases in at least two pieces: the weakest values, and the others folded.

    Values of fewer than five cases are folded into one row, and so are those beyond the eight weakest, so
    that the cases of a slice's rows add up to all. Bounds are one-sided at 95 %, on either side.
    """
    known = {example.id: example for example in examples}
    newest, services = max(example.occurred_at for example in examples), _services(examples)
    groups: dict[tuple[str, str], dict[str, Counter[bool]]] = defaultdict(lambda: defaultdict(Counter))
    for prediction in predictions:
        example, right = known[prediction.id], prediction.scores.get("correct")
        if right is None:
            continue
        groups[ALL, "age"][_age(example.occurred_at, newest)][right] += 1
        for field, value in _fields(example, services).items():
            groups[example.skill, field][value][right] += 1
    made = [{"skill": skill, "field": field, **_folded(values)} for (skill, field), values in groups.items()]
    return [one for one in made if len(one["rows"]) > 1]


def histogram(milliseconds: Sequence[float], limit: float | None) -> dict[str, Any] | None:
    """Counts of latencies in equal steps up to nearly the longest; ``limit`` is what the gate allows."""
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    longest = ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))]
    step = max(longest / _BINS, 1e-9)
    counts = Counter(min(int(value / step), _BINS - 1) for value in ordered)
    return {"counts": [counts[place] for place in range(_BINS)], "step": step, "longest": longest, "limit": limit}


def _services(examples: Sequence[Example]) -> dict[str, str]:
    """Incident → service, as any record of the incident names it."""
    found: dict[str, str] = {}
    for example in examples:
        labels = example.context.get("labels")
        for held in (example.metadata, example.context, labels if isinstance(labels, Mapping) else {}):
            if service := held.get("service"):
                found.setdefault(example.group_id, str(service))
    return found


def _fields(example: Example, services: Mapping[str, str]) -> dict[str, str]:
    fields = {
        "alert": example.context.get("alert"),
        "service": services.get(example.group_id),
        "severity": example.context.get("severity") or example.answer.get("severity"),
        "status": example.context.get("status"),
    }
    return {field: value for field, value in fields.items() if isinstance(value, str) and value}


def _age(moment: datetime, newest: datetime) -> str:
    days = (newest - moment).total_seconds() / 86400
    return next((words for most, words in _AGES if days <= most), _OLDER)


def _folded(values: Mapping[str, Counter[bool]]) -> dict[str, Any]:
    large = [(value, n) for value, n in values.items() if n.total() >= _LEAST_IN_SLICE]
    ordered = sorted(large, key=lambda item: (item[1][True] / item[1].total(), -item[1].total()))
    rows = [{"value": value, "folded": 0, **_share(n)} for value, n in ordered[:_SLICES_SHOWN]]
    for words, rest in (
        ("others, none of them weaker", [n for _, n in ordered[_SLICES_SHOWN:]]),
        (f"others of fewer than {_LEAST_IN_SLICE} cases", [n for n in values.values() if n.total() < _LEAST_IN_SLICE]),
    ):
        if rest:
            rows.append({"value": words, "folded": len(rest), **_share(sum(rest, Counter()))})
    return {"rows": rows, "of": len(values)}


def _share(counts: Counter[bool]) -> dict[str, Any]:
    found = share(counts[True], counts.total())
    return {"k": found.k, "n": found.n, "share": found.value, "lower": found.lower, "upper": found.upper}
