"""What on-call reads at 3 a.m.: the last lines of a failed task, and the same to the alert channel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier, RetryAction, RetryDecision

from opstune.errors import OpstuneError, TrainerStopped
from opstune_airflow import settings
from opstune_airflow.catalog import WHEN_IT_FAILS, run_folder
from opstune_airflow.retries import POLICY

log = logging.getLogger(__name__)

ALERTS = "opstune_alerts"


class FailureSummary(BaseNotifier):
    """What broke, where, what was saved, what happens next, what to do.

    Args:
        final: the task has failed for good. Only then the alert channel hears of it.
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
    """The five answers, by question, a line each. They are what the retry policy really does."""
    task, run, error = context["ti"], context["dag_run"], context.get("exception")
    stage = task.task_id.split(".")[0]
    attempt = f"attempt {task.try_number} of {task.max_tries + 1}"
    where = getattr(error, "where", "")
    advice = getattr(error, "todo", "") or (WHEN_IT_FAILS.get(stage, "") if final else "Nothing yet.")
    told = {
        "what broke": _broke(error),
        "where": f"{task.dag_id}, {task.task_id}, run {run.run_id}, {attempt}" + (f", {where}" if where else ""),
        "what was saved": saved(_run_folder(context), getattr(error, "saved", "")),
        "what comes next": _next(task, error, final),
        "what to do": advice,
    }
    return {question: " ".join(answer.split()) for question, answer in told.items()}


def _broke(error: Any) -> str:
    if error is None:
        return "the task was ended from outside: killed, marked failed, or its worker is gone"
    return error.what if isinstance(error, OpstuneError) else f"{type(error).__name__}: {error}"


def _next(task: Any, error: Any, final: bool) -> str:
    """Another attempt, when and how, or none, and why."""
    decision = POLICY.evaluate(error, task.try_number, task.max_tries) if error is not None else RetryDecision()
    again = getattr(error, "again", "") or decision.reason or ""
    if not final:
        delay = decision.retry_delay
        when = f" in {_clock(delay.total_seconds())}" if delay else ""
        attempt = f"tried again{when}, as attempt {task.try_number + 1} of {task.max_tries + 1}. {again}"
        if isinstance(error, TrainerStopped):  # Airflow does not say who stopped it
            return f"If a person marked this task: nothing, until it is cleared. Else it is {attempt}"
        return f"T{attempt[1:]}"
    end = "Later stages do not run and the champion stays."
    if decision.action is RetryAction.FAIL:
        return f"Nothing: it fails at once. {again} {end}"
    if decision.action is RetryAction.RETRY:
        return f"Nothing by itself: no retry is left; clearing the task starts anew. {again} {end}"
    return f"Nothing. {end}"


def _clock(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def saved(folder: Path | None, told: str = "") -> str:
    """The finished stages of a run folder and the checkpoint of its training, in words.

    Args:
        told: what a failed training itself says of its checkpoints, having looked at every byte.
    """
    if folder is None or not folder.is_dir():
        return told or "nothing of this run yet"
    from opstune.artifacts import MANIFEST
    from opstune.train import checkpoints

    stages = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    steps = checkpoints.steps(folder / "train.work" / "checkpoints")
    kept = [*stages, *([f"training up to step {steps[-1]}"] if steps and not told else [])]
    place = f"(in {folder})"
    if told:
        return f"{', '.join(stages) or 'no stage of this run yet'} {place}. {told}"
    return f"{', '.join(kept) or 'nothing of this run yet'} {place}"


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
    run = context["dag_run"]
    return settings.load({}).runs_dir / run_folder(run.dag_id, run.run_id)
