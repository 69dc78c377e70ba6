"""One retrain at a time across both DAGs: a file in OPSTUNE_HOME names the run whose turn it is.

Nobody has to give a turn back. It is over when Airflow says that the run which holds it is not
running any more, so a run that was marked failed, deleted or killed never blocks the next one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

StateOf = Callable[[str, str], str]


def take(home: Path, dag_id: str, run_id: str, state_of: StateOf) -> str | None:
    """Take the turn, or say who has it (``retrain_monthly manual__...``).

    Args:
        state_of: the state of a DAG run by DAG id and run id, ``""`` for a run that is gone.
    """
    from filelock import FileLock

    from opstune.artifacts import write_text

    home.mkdir(parents=True, exist_ok=True)
    file = home / "turn.json"
    with FileLock(str(home / "turn.lock")):
        held = _read(file)
        if held and held != (dag_id, run_id) and state_of(*held) == "running":
            return " ".join(held)
        if held != (dag_id, run_id):
            write_text(file, json.dumps({"dag_id": dag_id, "run_id": run_id}))
    return None


def yields_to_monthly(dag_id: str, scheduled: bool, when: datetime, monthly_running: bool) -> str | None:
    """Why a weekly run that its schedule started should not happen, or none. A person's run always may."""
    if dag_id != "retrain_weekly" or not scheduled:
        return None
    if when.day == 1:
        return "Skipped: it is the night of the monthly retrain, which learns from everything, this week included."
    return "Skipped: a monthly retrain is running and learns from this week too." if monthly_running else None


def _read(file: Path) -> tuple[str, str] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return str(found["dag_id"]), str(found["run_id"])
