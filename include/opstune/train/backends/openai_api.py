"""OpenAI's interface of fine-tuning: files, jobs and their events, in the forms of its public OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, Field

from opstune.errors import ConfigError, OpstuneError, ServiceDown
from opstune.http import Http
from opstune.settings import Connection, Patience

_PAGE = 100

M = TypeVar("M", bound=BaseModel)


class File(BaseModel):
    """An uploaded file."""

    id: str


class Fault(BaseModel):
    """Why a job failed. ``param`` is what was wrong: usually ``training_file``."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class Job(BaseModel):
    """One fine-tuning job."""

    id: str
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    training_file: str
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    error: Fault | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")


class Event(BaseModel):
    """One line of a job's log. A metrics event has its numbers in ``data``."""

    id: str
    level: str
    message: str
    type: str | None = None
    data: dict[str, Any] | None = None


class _Page(BaseModel):
    data: list[dict[str, Any]]
    has_more: bool = False


class _Deleted(BaseModel):
    deleted: bool


class Hyperparameters(BaseModel):
    """Of supervised fine-tuning. The rate is a factor on the provider's own, not a rate."""

    n_epochs: int = Field(ge=1, le=50)
    batch_size: int = Field(ge=1, le=256)
    learning_rate_multiplier: float = Field(gt=0)


class FineTuning:
    """The service behind a connection. Every method raises ServiceDown, Throttled, AccessDenied or ConfigError.

    A question is asked again after a fault, as patiently as ``patience`` says. A job is created once: after a fault
    nobody knows whether it was, so the next attempt looks for it first.
    """

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self._asking = Http("OpenAI", connection, patience, fault=_fault)
        self._doing = Http("OpenAI", connection, patience.model_copy(update={"attempts": 1}), fault=_fault)
        self._prefix = "" if connection.address.rstrip("/").endswith("/v1") else "v1/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._asking.__exit__(*error)
        self._doing.__exit__(*error)

    def upload(self, path: Path) -> File:
        """Send a JSONL file of chats for fine-tuning."""
        with path.open("rb") as content:
            sent = {"file": (path.name, content.read(), "application/jsonl")}
        form = {"purpose": "fine-tune"}
        return self._as(File, self._read(self._doing.send("POST", f"{self._prefix}files", data=form, files=sent)))

    def delete(self, file: str) -> bool:
        """Remove an uploaded file; whether it is gone."""
        return self._as(_Deleted, self._read(self._asking.send("DELETE", f"{self._prefix}files/{file}"))).deleted

    def create(self, model: str, file: str, asked: Hyperparameters, suffix: str, seed: int) -> Job:
        """Start a job on an uploaded file."""
        body = {
            "model": model,
            "training_file": file,
            "suffix": suffix,
            "seed": seed,
            "method": {"type": "supervised", "supervised": {"hyperparameters": asked.model_dump()}},
        }
        return self._as(Job, self._doing.post(self._jobs(), body))

    def job(self, job: str) -> Job:
        return self._as(Job, self._asking.get(self._jobs(job)))

    def cancel(self, job: str) -> Job:
        return self._as(Job, self._doing.post(self._jobs(f"{job}/cancel"), {}))

    def of_file(self, file: str) -> Job | None:
        """The job that was created on a file, where there is one."""
        found = (Job.model_validate(entry) for entry in self._pages(self._jobs()) if entry.get("training_file") == file)
        return next(found, None)

    def events(self, job: str) -> list[Event]:
        """All events of a job so far, the oldest first."""
        return [Event.model_validate(entry) for entry in self._pages(self._jobs(f"{job}/events"))][::-1]

    def _jobs(self, path: str = "") -> str:
        return f"{self._prefix}fine_tuning/jobs/{path}".rstrip("/")

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        """The entries of a list, the newest first; ``after`` names the last one of the page before."""
        after: dict[str, Any] = {}
        while True:
            page = self._as(_Page, self._asking.get(path, {"limit": _PAGE, **after}))
            yield from page.data
            if not page.has_more or not page.data:
                return
            after = {"after": page.data[-1]["id"]}

    def _as(self, model: type[M], value: Any) -> M:
        return self._asking.parsed(model, value)

    def _read(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            todo = "Check that the address is the service's own; the next run asks again."
            raise ServiceDown("OpenAI answers with something that is not JSON", self._asking.address, todo) from error


def _fault(response: httpx.Response) -> OpstuneError | None:
    """A refused request, in the provider's own words: they name the parameter."""
    if response.status_code not in (400, 404, 409, 422):
        return None
    try:
        told = Fault.model_validate(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return None
    about = f", about {told.param}" if told.param else ""
    todo = "Correct the profile, or the connection opstune_openai."
    return ConfigError(f"OpenAI refuses the request{about}: {told.message}", str(response.request.url.path), todo)
