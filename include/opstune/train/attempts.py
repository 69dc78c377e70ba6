"""What earlier attempts of a training left behind, and what the next one does differently.

The rules stand here rather than in Airflow, so that a task that is tried again and a command that is given again
agree: out of memory takes half the batch, a diverged loss half the learning rate, once, and a driver
fault one more attempt. They are kept in ``state.json`` of the work folder, which belongs to one request.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune import artifacts
from opstune.errors import (
    Diverged,
    DivergedAgain,
    DriverFault,
    DriverFaultAgain,
    OneExampleTooLarge,
    OpstuneError,
    OutOfMemory,
)
from opstune.train.spec import Halving
from opstune.train.story import Story

_STATE = "state.json"


class Attempts(BaseModel):
    """``asked`` is the fingerprint of the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    largest_batch: int | None = None
    halvings: tuple[Halving, ...] = ()
    driver_faults: int = 0

    def write(self, work: Path) -> None:
        artifacts.write_text(work / _STATE, self.model_dump_json(indent=1))


def take_up(work: Path, asked: str) -> Attempts:
    """What earlier attempts of this request left; the work of another request is thrown away."""
    found = _read(work)
    if found is None or found.asked != asked:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        found = Attempts(asked=asked)
        found.write(work)
    return found


def after(attempts: Attempts, error: OpstuneError, story: Story) -> tuple[Attempts, OpstuneError]:
    """What the next attempt starts from, and the error as its kind is once the earlier attempts are known."""
    match error:
        case OutOfMemory() if story.batch_size == 1:
            return attempts, OneExampleTooLarge(error.what, error.where)
        case OutOfMemory():
            return attempts.model_copy(update={"largest_batch": story.smaller[0]}), error
        case Diverged() if attempts.halvings:
            return attempts, DivergedAgain(f"{error.what}, at half the learning rate too", error.where)
        case Diverged():
            halving = Halving(diverged_at=story.step, since=story.saved or 0, why=error.what)
            return attempts.model_copy(update={"halvings": (halving,)}), error
        case DriverFault() if attempts.driver_faults:
            # Who starts it again after this has mended something: the next fault is a first one.
            return attempts.model_copy(update={"driver_faults": 0}), DriverFaultAgain(error.what, error.where)
        case DriverFault():
            return attempts.model_copy(update={"driver_faults": 1}), error
        case _:
            return attempts, error


def _read(work: Path) -> Attempts | None:
    try:
        return Attempts.model_validate(json.loads((work / _STATE).read_text()))
    except (OSError, ValueError, ValidationError):
        return None
