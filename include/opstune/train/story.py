"""How far a training came and what comes next, in the sentences that on-call reads at night.

Every sentence says what broke, at which step, what was saved, what another attempt would do and what a person can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opstune.errors import (
    DiskFull,
    Diverged,
    DivergedAgain,
    DriverFault,
    DriverFaultAgain,
    InputError,
    OneExampleTooLarge,
    OpstuneError,
    OutOfHostMemory,
    OutOfMemory,
    TrainerFailed,
    TrainerKilled,
    TrainerStopped,
)
from opstune.train.spec import split_batch

_NOT_AGAIN = "It is not tried again:"


@dataclass(frozen=True)
class Story:
    """How far a training came.

    ``saved`` is the last complete checkpoint's step. ``batch_size`` examples were in memory at once, and a step
    accumulated ``accumulation`` of those.
    """

    step: int = 0
    of: int = 0
    saved: int | None = None
    batch_size: int = 1
    accumulation: int = 1
    log: Path | None = None

    @property
    def at(self) -> str:
        if not self.step:
            return "before the first step"
        return f"at step {self.step} of {self.of}" if self.of else f"after step {self.step}"

    @property
    def kept(self) -> str:
        return f"The checkpoint of step {self.saved} is saved." if self.saved else "No checkpoint was saved yet."

    @property
    def goes_on(self) -> str:
        return f"resumes from step {self.saved}" if self.saved else "starts from the first step"

    @property
    def smaller(self) -> tuple[int, int]:
        """(batch, accumulation) with no more than half as many examples at once and as many a step."""
        return split_batch(self.batch_size * self.accumulation, self.batch_size // 2)


def explain(error: OpstuneError, story: Story) -> OpstuneError:
    """The same error, told whole. Bad input keeps its own words: no step of the training matters to it."""
    if isinstance(error, InputError):
        return error
    again, todo = _next(error, story)
    told = type(error)(f"{error.what.rstrip('.')}, {story.at}", str(story.log or error.where), error.todo or todo)
    told.saved, told.again = story.kept, again
    return told


def _next(error: OpstuneError, story: Story) -> tuple[str, str]:
    """(what another attempt would do, what a person can do)."""
    later = f"Then clear the task, or give the command again: it {story.goes_on}."
    match error:
        case OneExampleTooLarge():
            return (
                f"{_NOT_AGAIN} there is no smaller batch than the one example that did not fit.",
                "Lower max_length or the rank of the profile, train in 4 bits (qlora), or take a larger machine.",
            )
        case OutOfMemory():
            batch, accumulation = story.smaller
            smaller = (
                f"A retry {story.goes_on} with {batch} instead of {story.batch_size} examples at once, "
                f"{accumulation} times a step, so the result is the same."
            )
            host = isinstance(error, OutOfHostMemory)
            first = "Look at what else runs on this machine, or" if host else "To spare such an attempt,"
            return smaller, f"{first} lower batch_size in the profile."
        case TrainerStopped():
            return f"A retry {story.goes_on}.", ""
        case TrainerKilled():
            return (
                f"A retry {story.goes_on}.",
                "If nobody ended it, look at the machine's own log (dmesg) for the reason.",
            )
        case DivergedAgain():
            return (
                f"{_NOT_AGAIN} half the learning rate did not help.",
                "Start a retrain with a lower learning rate, or look at the newest data (the dataset's card).",
            )
        case Diverged():
            return (
                f"A retry {story.goes_on} at half the learning rate, once.",
                "To keep it from happening, lower the learning rate, or look at the newest data (the dataset's card).",
            )
        case DiskFull():
            return f"A retry {story.goes_on}.", "Free some space on that disk now; finished runs may be moved away."
        case DriverFaultAgain():
            return (
                f"{_NOT_AGAIN} a second attempt met a faulty driver or device too.",
                f"Look at nvidia-smi and dmesg (Xid) on that machine and reset or drain it. {later}",
            )
        case DriverFault():
            return (
                f"A retry {story.goes_on}, once, on another device where there is one.",
                "Look at nvidia-smi and dmesg (Xid) on that machine.",
            )
        case TrainerFailed():
            return (
                f"{_NOT_AGAIN} a bug or a broken installation fails the same way each time.",
                f"The last lines of that file say where, and stand above too; mend the cause. {later}",
            )
        case _:
            return (
                (f"A retry {story.goes_on}.", "")
                if error.retryable
                else (f"{_NOT_AGAIN} it would end the same way.", later)
            )
