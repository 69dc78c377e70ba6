"""Examples of each skill that a form asks about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from opstune.annotate import forms
from opstune.annotate.decide import Said
from opstune.annotate.forms.base import Given, Json, Reading, chosen, rated, written
from opstune.annotate.record import Record
from opstune.examples import Example, example_id

START = datetime(2026, 11, 1, tzinfo=UTC)

CONTEXTS: dict[str, Json] = {
    "remediation": {"alert": "PodCrashLooping", "labels": {"namespace": "shop", "pod": "cart-1", "host": "node-7"}},
    "triage": {"title": "Checkout is slow", "symptom": "p99 above 4 s", "tier": "1"},
    "log_error": {"log": "INFO begin\nERROR no route to db-1:5432\nINFO end", "job": "nightly"},
    "diagnosis": {"symptoms": ["orders time out"], "telemetry": {"latency": "4 s"}},
}
ANSWERS: dict[str, Json] = {
    "remediation": {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-1"}},
    "triage": {"severity": "SEV-1", "root_cause": "the cache of cart-1 was full", "mitigation": "it was emptied"},
    "log_error": {"message": "no route to db-1:5432", "category": "network", "severity": "high", "confidence": "high"},
    "diagnosis": {"root_cause": "orders waits for locks of stock", "query": 'rate(locks{db="stock"}[5m])'},
}


def example(skill: str = "remediation", number: int = 1, source: str = "alerts", **changes: Any) -> Example:
    """The ``number``-th example of a skill, answered; ``changes`` are other fields."""
    fields: dict[str, Any] = {
        "id": example_id(source, str(number), skill),
        "skill": skill,
        "source": source,
        "source_id": str(number),
        "group_id": f"incident-{number}",
        "occurred_at": START + timedelta(hours=number),
        "context": CONTEXTS[skill],
        "answer": ANSWERS[skill],
        "outcome": "success",
    }
    return Example(**{**fields, **changes})


def as_it_is(example: Example) -> Example:
    """A scrub that finds nothing."""
    return example


def record(form: str, **changes: Any) -> Record:
    """An example as its form shows it."""
    made = example(forms.get(form).skill, **changes)
    return Record(made, made, forms.get(form))


def read(form: str, *parts: list[Json], proposal: Json | None = None, **changes: Any) -> Reading:
    """What a form reads out of an annotation of its example; the proposal is the record's answer."""
    about = record(form, **changes)
    given = Given([part for result in parts for part in result])
    return about.form.read(given, about.clean.answer if proposal is None else proposal, about.clean)


def said(by: str, reading: Reading, at: int = 1) -> Said:
    return Said(at, by, f"2026-11-01T00:00:{at:02}+00:00", reading)


__all__ = [
    "ANSWERS",
    "CONTEXTS",
    "START",
    "as_it_is",
    "chosen",
    "example",
    "rated",
    "read",
    "record",
    "said",
    "written",
]
