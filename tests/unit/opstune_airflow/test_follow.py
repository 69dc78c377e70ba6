"""A run on a terminal: every change once, and what a long task says meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opstune_airflow import follow


def task(task_id: str, state: str | None, duration: float | None = None, label: str | None = None) -> dict[str, Any]:
    index = 0 if label else -1
    return {
        "task_id": task_id,
        "map_index": index,
        "rendered_map_index": label,
        "state": state,
        "start_date": state and "2026",
        "duration": duration,
        "try_number": 1,
    }


class Run:
    """A client whose run moves on each time it is asked, as a real one does while nobody looks."""

    def __init__(self, *steps: tuple[str, list[dict[str, Any]]]) -> None:
        self._steps = list(steps)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        self._now = self._steps.pop(0)
        return {"state": self._now[0]}

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self._now[1]


def test_each_change_is_told_once_and_the_training_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    log = follow.log_file(tmp_path, "d", "r", task("train.adapter", "running"))
    log.parent.mkdir(parents=True)
    events = [
        {"logger": "opstune.train", "event": "step 10 of 100, loss 0.9"},
        {"logger": "airflow.task", "event": "noise"},
    ]
    log.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"logger": "opstune.train", "event": "hal')
    source = task("collect.source", "success", 1.5, "incidents: 12 new")
    running, done = task("train.adapter", "running"), task("train.adapter", "success", 2.0)
    told: list[str] = []
    steps = [
        ("running", [source, task("gate.verdict", None)]),
        ("running", [source, running]),
        ("success", [source, done]),
    ]
    assert follow.follow(Run(*steps), tmp_path, "d", "r", told.append) == "success"  # type: ignore[arg-type]
    words = [" ".join(line.split()) for line in told]
    assert words == [
        "collect.source success 1.5 s incidents: 12 new",
        "step 10 of 100, loss 0.9",
        "train.adapter running",
        "train.adapter success 2.0 s",
    ]
