"""What every task of every DAG starts from."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, Final

from airflow.sdk import CronTriggerTimetable, TriggerRule, task

from opstune_airflow import catalog, retries
from opstune_airflow.notifier import FailureSummary

ARGS: Final[dict[str, Any]] = {
    "owner": catalog.OWNER,
    "retries": retries.RETRIES,
    "retry_delay": timedelta(seconds=20),  # for a task that died without an exception to judge
    "retry_policy": retries.POLICY,
    "on_failure_callback": FailureSummary(final=True),
    "on_retry_callback": FailureSummary(final=False),
}

# After a mapped task: one source that is down does not hold up the others.
ANY_SUCCESS: Final = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS

# A dict is one XCom, not one for each key.
stage = partial(task, multiple_outputs=False)
judge = partial(task.short_circuit, multiple_outputs=False)


def at(cron: str) -> CronTriggerTimetable:
    """A schedule in UTC. The first run is the next one: switching a DAG on does not start one for a night long past."""
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0))
