"""What on-call reads at 3 a.m.: the last lines of a failed task, and the same to the alert channel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier

from opstune.errors import OpstuneError
from opstune_airflow import settings
from opstune_airflow.catalog import WHEN_IT_FAILS

log = logging.getLogger(__name__)

ALERTS = "opstune_alerts"


class FailureSummary(BaseNotifier):
    """What broke, where, what was saved, what happens next, what to do.

    Args:
        final: no retry is left. Only then the alert channel hears of it.
    """

    def __init__(self, final: bool) -> None:
        super().__init__()
        self.final = final

    def notify(self, context: Any) -> None:
        told = summary(context, self.final)
        log.error("%s", "\n".join(f"{name:<15} {text}" for name, text in told.items()))
        if self.final:
            send(told)


def summary(context: Any, final: bool) -> dict[str, str]:
    """The five answers, by question."""
    task, run, error = context["ti"], context["dag_run"], context.get("exception")
    stage = task.task_id.split(".")[0]
    attempt = f"attempt {task.try_number} of {task.max_tries + 1}"
    return {
        "what broke": error.what if isinstance(error, OpstuneError) else f"{type(error).__name__}: {error}",
        "where": f"{task.dag_id}, {task.task_id}, run {run.run_id}, {attempt}"
        + (f", {error.where}" if getattr(error, "where", "") else ""),
        "what was saved": saved(_run_folder(context)),
        "what comes next": "Nothing. Later stages do not run and the champion stays."
        if final
        else "Airflow tries this task again.",
        "what to do": (getattr(error, "todo", "") or WHEN_IT_FAILS.get(stage, "")) if final else "Nothing yet.",
    }


def saved(folder: Path | None) -> str:
    """The finished stages and the checkpoints of a run folder, in words."""
    if folder is None or not folder.is_dir():
        return "nothing of this run yet"
    from opstune.artifacts import MANIFEST

    stages = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    checkpoints = sorted(folder.glob("train.work/**/checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[-1]))
    kept = [*stages, *([f"training up to step {checkpoints[-1].name.rsplit('-', 1)[-1]}"] if checkpoints else [])]
    return f"{', '.join(kept) or 'nothing of this run yet'} (in {folder})"


def send(told: dict[str, str]) -> None:
    """POST the summary to the connection ``opstune_alerts``; its own failure is only a warning."""
    import httpx

    url = settings.connection_url(ALERTS)
    if not url:
        return
    text = "\n".join(f"{name}: {value}" for name, value in told.items())
    try:
        httpx.post(url, json={"text": text, **told}, timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        log.warning("the alert could not be sent to %s: %s", ALERTS, type(error).__name__)


def _run_folder(context: Any) -> Path | None:
    from opstune_airflow.tasks import run_id

    run = context["dag_run"]
    return settings.load({}).runs_dir / run_id(run.dag_id, run.run_id)
