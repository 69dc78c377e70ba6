"""The error tree: who must act, and whether asking again can help.

OpstuneError
├── InputError             the person who wrote the file or pressed the button
│   ├── ConfigError        a key, a value or a form field is wrong
│   ├── AccessDenied       a system refused the password, key or token it was given
│   ├── DataError          records cannot become what the stage needs
│   └── IntegrityError     a file is not what its manifest or signature says
├── OutsideError           a service or machine outside opstune; a retry may help
│   ├── ServiceDown        refused, timed out, half an answer
│   ├── Throttled          asked to slow down
│   └── DiskFull           space may be freed; a retry resumes
├── TrainingError          the run itself
│   ├── OutOfMemory        of the GPU; a retry takes half the batch
│   │   ├── OutOfHostMemory     of the machine; the same rule
│   │   └── OneExampleTooLarge  there is no smaller batch: a person has to act
│   ├── TrainerKilled      a retry resumes from the last complete checkpoint
│   │   └── TrainerStopped      by a person, or by its worker's end: a retry resumes
│   ├── Diverged           the loss is NaN or runs away; one retry, at half the learning rate
│   │   └── DivergedAgain       at half the rate too: a person has to act
│   ├── DriverFault        the GPU, its driver or NCCL; one retry, on another device where there is one
│   │   └── DriverFaultAgain    a person has to act
│   └── TrainerFailed      the trainer died of a bug
├── EvaluationError        a model could not be measured, so nobody may judge it
├── ExportError            a model could not be turned into what ships
└── DeployError            what ships does not answer as tested where it was put; what answered before still does

Every error says what happened, where, and what to do, and carries a stable code. The arguments are
positional because an exception with keyword-only arguments does not survive pickling, and errors
cross process borders here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class OpstuneError(Exception):
    """A fault told to a person: what, where, what to do.

    Where a stage knows them, ``saved`` says what is not lost, and ``again`` what another attempt would do.
    """

    code: ClassVar[str] = "opstune"
    retryable: ClassVar[bool] = False
    saved: str = ""
    again: str = ""

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what = what
        self.where = where
        self.todo = todo

    def __str__(self) -> str:
        sentence = f"{self.what} ({self.where})" if self.where else self.what
        sentence = sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
        return " ".join(part for part in (sentence, self.saved, self.again, self.todo) if part)


class InputError(OpstuneError):
    code = "input"


class ConfigError(InputError):
    code = "config"


class AccessDenied(InputError):
    code = "access-denied"


class DataError(InputError):
    code = "data"


class IntegrityError(InputError):
    code = "integrity"


class OutsideError(OpstuneError):
    code = "outside"
    retryable = True


class ServiceDown(OutsideError):
    code = "service-down"


class Throttled(OutsideError):
    """``seconds`` is how long the service asked to be left alone, where it said so."""

    code = "throttled"
    seconds: float | None = None


class DiskFull(OutsideError):
    code = "disk-full"


class TrainingError(OpstuneError):
    code = "training"


class OutOfMemory(TrainingError):
    code = "out-of-memory"
    retryable = True


class OutOfHostMemory(OutOfMemory):
    code = "out-of-host-memory"


class OneExampleTooLarge(OutOfMemory):
    code = "one-example-too-large"
    retryable = False


class TrainerKilled(TrainingError):
    code = "trainer-killed"
    retryable = True


class TrainerStopped(TrainerKilled):
    code = "trainer-stopped"


class Diverged(TrainingError):
    """``sound`` is the last step at which nothing was wrong yet, where that is known."""

    code = "diverged"
    retryable = True
    sound: int | None = None


class DivergedAgain(Diverged):
    code = "diverged-again"
    retryable = False


class DriverFault(TrainingError):
    code = "driver-fault"
    retryable = True


class DriverFaultAgain(DriverFault):
    code = "driver-fault-again"
    retryable = False


class TrainerFailed(TrainingError):
    code = "trainer-failed"


class EvaluationError(OpstuneError):
    code = "evaluation"


class ExportError(OpstuneError):
    code = "export"


class DeployError(OpstuneError):
    code = "deploy"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
