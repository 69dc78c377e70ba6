"""Made-up examples: many, all different, of three skills, in incidents of three."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.examples import Example, example_id
from opstune.settings import DatasetSettings
from opstune.store import SNAPSHOT, ExampleStore

START = datetime(2026, 1, 1, tzinfo=UTC)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

Make = Callable[..., Example]
Many = Callable[..., list[Example]]
Take = Callable[[list[Example]], Ref]


def _words(rng: Random, count: int) -> str:
    return " ".join("".join(rng.choices(_LETTERS, k=6)) for _ in range(count))


def _alert(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    labels = {"namespace": _words(rng, 1), "pod": f"{_words(rng, 1)}-7f9c4d-x2x9z"}
    context = {"alert": "PodCrashLooping", "summary": _words(rng, 12), "labels": labels}
    if rng.random() < 0.4:
        return context, {"function": "none", "parameters": {}}
    return context, {"function": "restart_pod", "parameters": labels}


def _incident(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"title": _words(rng, 15)}, {"severity": rng.choice(["SEV-1", "SEV-2"]), "root_cause": _words(rng, 4)}


def _log(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    message = _words(rng, 8)
    answer = {"message": message, "category": rng.choice(["data", "network"]), "severity": "low", "confidence": "high"}
    return {"log": f"2026-01-01T00:00:00Z INFO {_words(rng, 8)}\n2026-01-01T00:00:01Z ERROR {message}"}, answer


_MAKERS = {"remediation": _alert, "triage": _incident, "log_error": _log}


def example(number: int = 0, skill: str = "remediation", **changes: Any) -> Example:
    """Example ``number``: three in a row are one incident, an hour lies between two."""
    context, answer = _MAKERS[skill](Random(f"{skill}-{number}"))
    fields = {
        "id": example_id("made-up", str(number), skill),
        "skill": skill,
        "source": "made-up",
        "source_id": str(number),
        "group_id": f"INC-{number // 3}",
        "occurred_at": START + timedelta(hours=number),
        "context": context,
        "answer": answer,
        "outcome": "success",
    }
    return Example.model_validate({**fields, **changes})


@pytest.fixture
def make() -> Make:
    return example


@pytest.fixture
def many() -> Many:
    """Examples ``start`` to ``stop``, the skills mixed four to one to one."""

    def build(stop: int, start: int = 0) -> list[Example]:
        mixed = ("remediation", "triage", "remediation", "log_error", "remediation", "remediation")
        return [example(number, mixed[number % len(mixed)]) for number in range(start, stop)]

    return build


@pytest.fixture
def settings() -> DatasetSettings:
    return DatasetSettings(
        minimum=100,
        minimum_test=3,
        near_duplicate_threshold=0.7,
        max_class_share=0.8,
        skills=["remediation", "triage", "log_error"],
    )


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Put examples into one store and seal what it holds."""
    store = ExampleStore(tmp_path / "store")

    def snapshot(examples: list[Example]) -> Ref:
        store.upsert(examples)
        parts = [part._asdict() for part in store.listing()]
        folder = tmp_path / f"snapshot-{len(parts)}"

        def write(partial: Path) -> dict[str, float]:
            (partial / SNAPSHOT).write_text(json.dumps({"store": "../store", "parts": parts}))
            return {"parts": len(parts)}

        return artifacts.build(folder, "examples", {}, {"parts": parts}, write)

    return snapshot
