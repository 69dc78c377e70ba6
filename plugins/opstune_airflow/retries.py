"""Which failures Airflow tries again, how soon, and the reason that it writes into the task's log."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from opstune import errors

RETRIES: Final = 3


def _again(error: type[errors.OpstuneError], seconds: int, reason: str) -> RetryRule:
    return RetryRule(error, RetryAction.RETRY, timedelta(seconds=seconds), reason)


# The first rule that fits wins, so the narrow ones stand before the broad.
RULES: Final = [
    RetryRule(
        [errors.OneExampleTooLarge, errors.DivergedAgain, errors.DriverFaultAgain],
        RetryAction.FAIL,
        reason="What may be tried by itself was tried: a person has to act.",
    ),
    # A worker that is shut down stops its task as a person does; a task that a person marked is not asked any more.
    _again(errors.TrainerStopped, 5, "Stopped from outside: it goes on from the last complete checkpoint."),
    _again(errors.OutOfMemory, 10, "Out of memory: tried again with half the batch."),
    _again(errors.TrainerKilled, 5, "The trainer was killed: it goes on from the last complete checkpoint."),
    _again(errors.Diverged, 10, "The loss diverged: tried once more, from the last good checkpoint at half the rate."),
    _again(errors.DriverFault, 30, "The GPU or its driver failed: tried once more, on another if there is one."),
    _again(errors.DiskFull, 600, "The disk is full: tried again when there was time to free some space."),
    _again(errors.Throttled, 60, "The service asked to slow down."),
    _again(errors.OutsideError, 20, "A service outside opstune failed; it may be back soon."),
    RetryRule(errors.OpstuneError, RetryAction.FAIL, reason="Trying again cannot help: a person has to act."),
    RetryRule([ConnectionError, TimeoutError], RetryAction.RETRY, timedelta(seconds=20), "The network failed."),
]
POLICY: Final = ExceptionRetryPolicy(RULES, default=RetryAction.FAIL)
