"""The trigger that watches Label Studio while a retrain waits for annotation, in the triggerer, holding no worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from opstune_airflow import settings

if TYPE_CHECKING:
    from opstune.annotate import Progress

#: One line in the task's log this often.
_TOLD_EVERY: Final = timedelta(minutes=5)


class AnnotationTrigger(BaseTrigger):
    """Fires when as many tasks are done in each project as ``goal`` says, or at ``end``.

    Args:
        goal: project → how many tasks must be done; none where Label Studio did not answer yet, then what is there
            when it first answers is the goal.
        end: when to stop waiting, ISO 8601.
        poll_seconds: how often Label Studio is asked.

    The event is ``{"late": bool, "told": str}``, or ``{"problem": str}`` for a fault that waiting cannot cure.
    """

    def __init__(self, goal: dict[str, int] | None, end: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.goal, self.end, self.poll_seconds = goal, end, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = {"goal": self.goal, "end": self.end, "poll_seconds": self.poll_seconds}
        return "opstune_airflow.waiting.AnnotationTrigger", fields

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from opstune.errors import OpstuneError, OutsideError

        end, next_line, told = datetime.fromisoformat(self.end), _now(), "Label Studio has not answered yet"
        while True:
            late = _now() >= end
            try:
                now = await self._progress()
            except OutsideError as error:
                left, told = 1, f"Label Studio does not answer: {error}"
            except OpstuneError as error:
                yield _event(problem=str(error))
                return
            else:
                left, told = self._left(now)
            if left == 0 or late:
                yield _event(late=left > 0, told=told)
                return
            if _now() >= next_line:
                self.log.info("%s; waits until %s at the latest", told, f"{end:%Y-%m-%d %H:%M} UTC")
                next_line = _now() + _TOLD_EVERY
            await asyncio.sleep(max(min(self.poll_seconds, (end - _now()).total_seconds()), 0))

    async def _progress(self) -> list[Progress]:
        connection = await settings.connection_of_trigger(settings.LABEL_STUDIO)
        return await asyncio.to_thread(_progress, connection)

    def _left(self, now: list[Progress]) -> tuple[int, str]:
        from opstune.annotate import missing, progress_told

        if self.goal is None:
            self.goal = {one.project: one.total for one in now}
        return missing(now, self.goal), progress_told(now, self.goal)


def _progress(connection: dict[str, str] | None) -> list[Progress]:
    """Asked in a thread: the library's imports and requests would hold up every other trigger.

    Raises:
        ConfigError: the connection was removed meanwhile.
        OpstuneError: as Label Studio answers.
    """
    from opstune import annotate
    from opstune import settings as library
    from opstune.errors import ConfigError

    if connection is None:
        todo = "Put it back and clear this task, or trigger the retrain without waiting."
        raise ConfigError(f"the connection {settings.LABEL_STUDIO} is gone", "annotation", todo)
    found = library.load({"connections": {settings.LABEL_STUDIO: connection}})
    server = found.connections[settings.LABEL_STUDIO]
    return annotate.progress(annotate.project_names(), server, found.annotate.patience)


def _event(**payload: Any) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


def _now() -> datetime:
    return datetime.now(UTC)
