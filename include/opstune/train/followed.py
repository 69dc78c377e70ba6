"""One attempt of a training as its parent followed it: what was heard of it, how far it came, and how it broke."""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opstune.errors import Diverged, OpstuneError, TrainerStopped
from opstune.train import attempts, checkpoints, failures, launch
from opstune.train.attempts import Attempts
from opstune.train.place import Ended
from opstune.train.spec import Spec
from opstune.train.story import Story, explain

log = logging.getLogger(__name__)


class Followed:
    """``output`` is the file that the trainer's other words go to, ``processes`` how many one step is shared out to."""

    def __init__(self, spec: Spec, output: Path, processes: int) -> None:
        self._spec, self._output, self._processes = spec, output, processes
        self._heard: dict[str, dict[str, Any]] = {}  # the last event of each kind
        self._before = output.stat().st_size if output.is_file() else 0  # what an earlier attempt said

    def hear(self, event: dict[str, Any]) -> None:
        if event["event"] != "failed" or "failed" not in self._heard:  # the first of several broke the others
            self._heard[event["event"]] = event

    def stopped(self) -> OpstuneError:
        """The end that a person asked for."""
        return explain(TrainerStopped("the trainer was stopped on request"), self._story())

    def broke(self, ended: Ended, left: Attempts, stopped: bool) -> OpstuneError:
        """What broke, told whole; what the next attempt does differently is written down before."""
        lines = self._last_lines(400 if self._processes > 1 else 40)
        if self._processes > 1:
            ended, lines = _first_broken(ended, lines, self._processes)
        if ended.cause:
            error = ended.cause
        elif "failed" in self._heard and not stopped:
            error = failures.from_event(self._heard["failed"])
        else:
            error = failures.from_exit(ended.code, lines, ended.memory, stopped)
        sound = self._heard.get("failed", {}).get("sound")
        if isinstance(error, Diverged) and sound is not None:
            # What was saved while the loss ran away is whole, and no good.
            checkpoints.drop_after(self._spec.checkpoints, sound)
        story = self._story()
        next_attempt, error = attempts.after(left, error, story)
        next_attempt.write(self._spec.work)
        for text in lines[-10:] if not stopped else ():  # nothing broke
            log.error("  trainer: %s", text)
        return explain(error, story)

    def _story(self) -> Story:
        found = checkpoints.last_complete(self._spec.checkpoints)
        told = [self._heard.get(event, {}) for event in ("begins", "progress", "saved", "broke")]
        # A process never has more at once than its share of a step, however large the batch may be.
        at_once = min(self._spec.batch_size, launch.share(self._spec.effective_batch, self._processes))
        return Story(
            step=max(int(event.get("step", 0)) for event in told),
            of=int(told[0].get("of", 0)),
            saved=found[0] if found else None,
            batch_size=at_once,
            accumulation=self._spec.effective_batch // at_once,
            log=self._output,
        )

    def _last_lines(self, most: int) -> list[str]:
        """The end of what was said by this attempt: as much as a traceback takes."""
        with self._output.open(errors="replace") if self._output.is_file() else io.StringIO() as lines:
            lines.seek(self._before)
            return [text.rstrip() for text in deque(lines, maxlen=most)]


def _first_broken(ended: Ended, lines: Sequence[str], processes: int) -> tuple[Ended, list[str]]:
    """The end and the last words of the process that broke first: the launcher's own say little of it."""
    broken, own = launch.read(lines)
    if broken is None:
        return ended, own[-40:]
    log.error("Process %d of %d broke first, and the others were ended.", broken.rank + 1, processes)
    return replace(ended, code=broken.code), own[-40:]
