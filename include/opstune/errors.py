"""The error tree: who must act, and whether asking again can help.

OpstuneError
├── InputError             the person who wrote the file or pressed the button
│   ├── ConfigError        a key, a value or a form field is wrong
│   ├── AccessDenied       a system refused the password, key or token it was given
│   ├── DataError          records cannot become what the stage needs
│   └── IntegrityError     a file is not what its manifest or signature says
├── OutsideError           a service or machine outside opstune; a retry may help
│   ├── ServiceDown        refused, timed out, half an answer
│   └── Throttled          asked to slow down
├── TrainingError          the run itself
│   ├── OutOfMemory        a retry with half the batch may help
│   ├── TrainerKilled      a retry resumes from the last complete checkpoint
│   ├── DriverFault        the GPU or its driver failed; a retry takes another one where there is one
│   ├── Diverged           the loss is NaN or runs away
│   └── TrainerFailed      the trainer died of a bug
├── EvaluationError        a model could not be measured, so nobody may judge it
└── ExportError            a model could not be turned into what ships

Every error says what happened, where, and what to do, and carries a stable code. The arguments are
positional because an exception with keyword-only arguments does not survive pickling, and errors
cross process borders here.
"""

from __future__ import annotations

from typing import ClassVar


class OpstuneError(Exception):
    """A fault told to a person: what, where, what to do."""

    code: ClassVar[str] = "opstune"
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what = what
        self.where = where
        self.todo = todo

    def __str__(self) -> str:
        sentence = f"{self.what} ({self.where})" if self.where else self.what
        sentence = sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
        return f"{sentence} {self.todo}".strip()


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


class TrainingError(OpstuneError):
    code = "training"


class OutOfMemory(TrainingError):
    code = "out-of-memory"
    retryable = True


class TrainerKilled(TrainingError):
    code = "trainer-killed"
    retryable = True


class DriverFault(TrainingError):
    code = "driver-fault"
    retryable = True


class Diverged(TrainingError):
    code = "diverged"


class TrainerFailed(TrainingError):
    code = "trainer-failed"


class EvaluationError(OpstuneError):
    code = "evaluation"


class ExportError(OpstuneError):
    code = "export"
