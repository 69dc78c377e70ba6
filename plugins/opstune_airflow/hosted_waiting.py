"""The trigger that follows a training at a provider, in the triggerer, holding no worker; a kill cancels the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from opstune_airflow import settings

if TYPE_CHECKING:
    from opstune.train.backends.openai_api import FineTuning

CONNECTION: Final = "opstune_openai"
#: One line in the task's log this often.
_TOLD_EVERY: Final = timedelta(minutes=5)


class HostedTrigger(BaseTrigger):
    """Fires when a job has ended, or at ``end``.

    Args:
        job: the provider's id of it.
        end: when to stop waiting, ISO 8601.
        poll_seconds: how often the provider is asked.

    The event is ``{"late": bool, "told": str}``, or ``{"problem": str}`` for a fault that waiting cannot cure.
    """

    def __init__(self, job: str, end: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job, self.end, self.poll_seconds = job, end, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = {"job": self.job, "end": self.end, "poll_seconds": self.poll_seconds}
        return "opstune_airflow.hosted_waiting.HostedTrigger", fields

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from opstune.errors import OpstuneError, OutsideError

        end, next_line, ended = datetime.fromisoformat(self.end), _now(), False
        while True:
            late = _now() >= end
            try:
                ended, told = await asyncio.to_thread(_look, await self._connection(), self.job)
            except OutsideError as error:
                told = f"The provider does not answer: {error}"
            except OpstuneError as error:
                yield _event(problem=str(error))
                return
            if ended or late:
                yield _event(late=not ended, told=told)
                return
            if _now() >= next_line:
                self.log.info("%s; waits until %s at the latest", told, f"{end:%Y-%m-%d %H:%M} UTC")
                next_line = _now() + _TOLD_EVERY
            await asyncio.sleep(max(min(self.poll_seconds, (end - _now()).total_seconds()), 0))

    async def on_kill(self) -> None:
        """Somebody marked the task failed or cleared it while it waited: the job must not go on, and cost."""
        await asyncio.to_thread(_cancel, await self._connection(), self.job)
        self.log.warning("The job %s is cancelled at the provider.", self.job)

    async def _connection(self) -> dict[str, str] | None:
        return await settings.connection_of_trigger(CONNECTION)


def _look(connection: dict[str, str] | None, job: str) -> tuple[bool, str]:
    """Whether a job has ended, and where it stands in words; asked in a thread, as requests would hold up others."""
    with _service(connection) as service:
        found = service.job(job)
    return found.ended, f"The job {job} is {found.status.replace('_', ' ')}"


def _cancel(connection: dict[str, str] | None, job: str) -> None:
    with _service(connection) as service:
        if not service.job(job).ended:
            service.cancel(job)


def _service(connection: dict[str, str] | None) -> FineTuning:
    """The provider behind the connection.

    Raises:
        ConfigError: the connection was removed meanwhile.
    """
    from opstune import settings as library
    from opstune.errors import ConfigError
    from opstune.train.backends.openai_api import FineTuning

    if connection is None:
        todo = "Put it back and clear this task: it goes on with the same job."
        raise ConfigError(f"the connection {CONNECTION} is gone", "hosted training", todo)
    found = library.load({"connections": {CONNECTION: connection}})
    return FineTuning(found.connections[CONNECTION], found.train.hosted.patience)


def _event(**payload: Any) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


def _now() -> datetime:
    return datetime.now(UTC)
