"""A DAG run as it happens, on a terminal: a line for each task that changes, and what long tasks say meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from opstune_airflow.client import FINISHED, Client

_TOLD: Final = ("running", "success", "failed", "skipped", "up_for_retry", "up_for_reschedule", "upstream_failed")
_SPEAKING: Final = ("train.adapter", "evaluate.measure", "evaluate.red_team", "convert.measure")

Tell = Callable[[str], None]


def follow(client: Client, logs: Path, dag_id: str, run_id: str, tell: Tell) -> str:
    """Tell a run until it is finished; returns its state. ``logs`` is Airflow's log folder on this machine."""
    seen: dict[tuple[str, int], str] = {}
    speaking: dict[tuple[str, int], _Said] = {}
    while True:
        state = str(client.run(dag_id, run_id)["state"])
        for task in sorted(client.tasks(dag_id, run_id), key=lambda task: task["start_date"] or "~"):
            name, key = task["task_id"], (task["task_id"], task["map_index"])
            attempt = (name, task["try_number"])
            if name in _SPEAKING and task["state"] == "running" and attempt not in speaking:
                speaking[attempt] = _Said(log_file(logs, dag_id, run_id, task))
            for line in speaking.get(attempt, ()):
                tell(f"{'':10}{line}")
            if task["state"] in _TOLD and seen.get(key) != task["state"]:
                seen[key] = task["state"]
                tell(_line(task))
        if state in FINISHED:
            return state
        time.sleep(1.0)


def log_file(logs: Path, dag_id: str, run_id: str, task: dict[str, Any]) -> Path:
    """Where the log of a task's latest attempt stands."""
    folder = logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task['task_id']}"
    folder = folder / f"map_index={task['map_index']}" if task["map_index"] >= 0 else folder
    return folder / f"attempt={max(task['try_number'], 1)}.log"


def _line(task: dict[str, Any]) -> str:
    took = f"{task['duration']:6.1f} s" if task["state"] in (*FINISHED, "skipped") and task["duration"] else ""
    label = task["rendered_map_index"] or ""
    label = "" if label == str(task["map_index"]) else label  # not known before the task has run
    return f"  {task['task_id']:<18} {task['state']:<18} {took:<10} {label}".rstrip()


class _Said:
    """The new lines of opstune's own loggers each time it is iterated over."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0

    def __iter__(self) -> Iterator[str]:
        if not self._log.is_file():
            return
        with self._log.open() as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith("\n"):
                    return  # half a line: it is whole next time
                self._read += len(line.encode())
                event = _event(line)
                if str(event.get("logger", "")).startswith("opstune."):
                    yield str(event.get("event", ""))


def _event(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
