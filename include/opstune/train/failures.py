"""How a training broke, in words: from an exception in the child, or from its exit and last output, to the error tree.

Every sentence says what broke, at which step, what was saved, what happens next and what a person can do.
"""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opstune.errors import (
    Diverged,
    InputError,
    OpstuneError,
    OutOfMemory,
    OutsideError,
    TrainerFailed,
    TrainerKilled,
)
from opstune.train.memory import Memory

#: The child's exit status when it has told its own failure.
TOLD = 3
_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|MemoryError|std::bad_alloc", re.I
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b", re.I)
_LAST_LINES = 10


@dataclass(frozen=True)
class Story:
    """How far a training came. ``saved`` is the last complete checkpoint's step; ``left`` is what may be tried next."""

    step: int = 0
    of: int = 0
    saved: int | None = None
    batch_size: int = 1
    memory: Memory | None = None
    last_lines: Sequence[str] = field(default=())
    stopped: bool = False
    log: Path | None = None

    @property
    def at(self) -> str:
        return f"at step {self.step} of {self.of}" if self.step else "before the first step"

    @property
    def kept(self) -> str:
        return f"The checkpoint of step {self.saved} is saved." if self.saved else "No checkpoint was saved yet."

    @property
    def next(self) -> str:
        return f"A retry resumes from step {self.saved}." if self.saved else "A retry starts from the first step."


def from_exception(error: BaseException) -> OpstuneError | None:
    """The child's own view of an exception: none when it is a bug, which a traceback tells better."""
    for cause in _chain(error):
        if isinstance(cause, OpstuneError):
            return cause
        text = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return OutsideError("the disk is full")
        if isinstance(cause, MemoryError) or _OUT_OF_MEMORY.search(text):
            return OutOfMemory("out of memory")
        if _DISK_FULL.search(text):
            return OutsideError("the disk is full")
    return None


def from_event(event: dict[str, Any], story: Story) -> OpstuneError:
    """The error that a child told before it ended."""
    kinds = {kind.__name__: kind for kind in _subclasses(OpstuneError)}
    kind = kinds.get(str(event.get("kind")), TrainerFailed)
    return explain(kind(str(event["what"]), str(event.get("where", "")), str(event.get("todo", ""))), story)


def from_exit(code: int, story: Story) -> OpstuneError:
    """The error of a child that ended without a word, from its exit code, its last output and the machine's memory.

    A negative code is the signal that ended it, as ``subprocess`` has it.
    """
    tail = "\n".join(story.last_lines)
    if story.stopped:
        return explain(TrainerKilled("the trainer was stopped on request"), story)
    if -code == signal.SIGKILL and story.memory and story.memory.short:
        return explain(OutOfMemory("the machine ran out of memory and killed the trainer (signal 9)"), story)
    if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, 137, 143):
        number = -code if code < 0 else code - 128
        return explain(TrainerKilled(f"the trainer was killed (signal {number})"), story)
    if _OUT_OF_MEMORY.search(tail):
        return explain(OutOfMemory("out of memory"), story)
    if _DISK_FULL.search(tail):
        return explain(OutsideError("the disk is full"), story)
    died = f"died of signal {-code}" if code < 0 else f"ended with exit code {code}"
    last = next((text.strip() for text in reversed(story.last_lines) if text.strip()), "")
    return explain(TrainerFailed(f"the trainer {died}{f': {last}' if last else ''}"), story)


def explain(error: OpstuneError, story: Story) -> OpstuneError:
    """The same error, told whole: step, what was saved, what happens next, what to do."""
    what = f"{error.what.rstrip('.')}, {story.at}"
    where = str(story.log) if story.log else error.where
    if isinstance(error, OutOfMemory):
        if story.batch_size == 1:
            advice = "Not even one example at a time fits: lower max_length or the rank, or take a larger machine."
            return TrainerFailed(what, where, f"{story.kept} A retry would end the same way. {advice}")
        advice = f"{story.next} It uses half the batch and twice the accumulation, so the result is the same."
        return OutOfMemory(what, where, f"{story.kept} {advice} If it happens again, lower batch_size in the profile.")
    if isinstance(error, TrainerKilled):
        advice = "If nobody stopped it, look at the machine's own log."
        return TrainerKilled(what, where, f"{story.kept} {story.next} {advice}")
    if isinstance(error, Diverged):
        advice = "It is not retried, since it would diverge again: lower the learning rate, or look at the newest data."
        return Diverged(what, where, f"{story.kept} {advice}")
    if isinstance(error, TrainerFailed):
        tail = "".join(f"\n  {text}" for text in story.last_lines[-_LAST_LINES:])
        bug = f"This is a bug or a broken installation, so it is not retried; the last lines were:{tail}"
        advice = error.todo or bug
        return TrainerFailed(what, where, f"{story.kept} {advice}")
    if isinstance(error, InputError):
        return type(error)(error.what, error.where, error.todo)
    if isinstance(error, OutsideError):
        advice = error.todo or "Free some space, then clear the task."
        return type(error)(what, where, f"{story.kept} {story.next} {advice}")
    return type(error)(what, where, f"{story.kept} {error.todo}".strip())


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _subclasses(kind: type[OpstuneError]) -> Iterator[type[OpstuneError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _subclasses(child)
