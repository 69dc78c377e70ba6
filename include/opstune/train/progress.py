"""What the child tells while it works: one JSON line an event, on a pipe that nothing else writes to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """Where a training stands. ``tokens_per_second`` counts real tokens, never padding."""

    step: int
    of: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    memory_mb: float
    seconds_left: float

    def __str__(self) -> str:
        return f"step {self.step} of {self.of}  {self.words}"

    @property
    def words(self) -> str:
        """All but the step, which a bar shows itself."""
        return (
            f"loss {self.loss:.4f}  rate {self.learning_rate:.2e}  "
            f"{self.tokens_per_second:,.0f} tokens/s  {self.memory_mb:,.0f} MB  {_clock(self.seconds_left)} left"
        )


class Tell(Protocol):
    """How the child tells an event: its kind, and JSON-able facts."""

    def __call__(self, event: str, **facts: Any) -> None: ...


def line(event: str, facts: Mapping[str, Any]) -> str:
    """One event as a line of text, with its newline."""
    return json.dumps({"event": event, **facts}) + "\n"


def read(text: str) -> dict[str, Any] | None:
    """The event of a line, or none where the line is something else, or cut off by a kill."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
