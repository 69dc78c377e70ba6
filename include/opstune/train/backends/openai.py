"""Hosted fine-tuning at OpenAI, or whoever speaks its interface: upload, job, wait, and the model's id back.

Private data leaves the house here, so nothing is sent unless the configuration says that it may. What was begun
stands in the work folder (``begun.json``), so that a retry goes on with the same file and the same job.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from opstune import settings as configuration
from opstune.artifacts import write_text
from opstune.errors import ConfigError, OpstuneError, OutsideError, ServiceDown, TrainerStopped
from opstune.settings import Connection, TrainSettings
from opstune.train import result
from opstune.train.backends.openai_api import FineTuning, Job
from opstune.train.backends.openai_terms import curve, failure, hyperparameters, tell_events, write_chats
from opstune.train.progress import Tell
from opstune.train.spec import Spec

log = logging.getLogger(__name__)

CONNECTION = "opstune_openai"
#: What a hosted model is, in the folder of its training.
MODEL_FILE = "hosted.json"
_SUFFIX = "opstune"


class Begun(BaseModel):
    """What an earlier attempt has begun. ``job`` is none while nobody knows whether the job was created."""

    file: str
    job: str | None = None


def run(spec: Spec, tell: Tell) -> None:
    """Train what a spec says at the provider; the connection and what is allowed come from the configuration.

    Raises:
        OpstuneError: as ``Hosted.train`` does.
    """
    found = configuration.load()
    Hosted(found.connection(CONNECTION), found.train).train(spec, tell)


class JobRuns(Exception):
    """Not an error: the job is begun. Whoever asked not to wait for it gets its id."""

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job


class Hosted:
    """A training at the provider. ``stop`` may be called from a signal handler or another thread.

    Args:
        wait: follow the job to its end, rather than raise JobRuns when it is begun.
    """

    def __init__(self, connection: Connection | None, settings: TrainSettings, wait: bool = True) -> None:
        self._connection, self._settings, self._wait = connection, settings, wait
        self._stopped = threading.Event()

    def train(self, spec: Spec, tell: Tell) -> None:
        """Begin the job, or find the one that was begun, follow it, and put its model's id at ``spec.finished``.

        Raises:
            ConfigError: data may not leave the house, there is no connection, or the provider refuses the request.
            AccessDenied: the key was refused. DataError: the provider refuses the file.
            OutsideError: the provider did not answer for ``train.hosted.wait_hours``, or not when the job was begun.
            TrainerFailed: the job failed, or was cancelled at the provider. TrainerStopped: it was cancelled from here.
            JobRuns: it is begun, and nobody is to wait here.
        """
        started = time.monotonic()
        with self.service(spec) as service:
            job = begin(service, spec, tell)
            if not self._wait:
                if job.status == "cancelled":  # and this is a new attempt: somebody wants it after all
                    _begun(spec).unlink()
                    job = begin(service, spec, tell)
                raise JobRuns(job.id)
            try:
                job = self._follow(service, job, tell)
            except TrainerStopped:
                _begun(spec).unlink(missing_ok=True)  # the next attempt is a new job
                raise
            finish(service, spec, job, tell, time.monotonic() - started)

    def stop(self) -> None:
        """Let the job be cancelled, as a person who stops the training does."""
        self._stopped.set()

    def service(self, spec: Spec) -> FineTuning:
        """The provider, if it may be asked at all.

        Raises:
            ConfigError: data may not leave the house, or there is no connection.
        """
        if not self._settings.allow_data_to_leave:
            todo = (
                "If that is permitted, set train.allow_data_to_leave to true in opstune.yaml; else choose a profile "
                "that trains here."
            )
            what = f"the profile {spec.profile} would send {spec.examples.name} to a hosted service"
            raise ConfigError(f"{what}, and private data may not leave the house", "train.allow_data_to_leave", todo)
        if self._connection is None:
            todo = "Make it, with the service's address as host and the API key as password."
            raise ConfigError(f"there is no connection {CONNECTION}", f"profile {spec.profile}", todo)
        return FineTuning(self._connection, self._settings.hosted.patience)

    def _follow(self, service: FineTuning, job: Job, tell: Tell) -> Job:
        """The job when it has ended; it goes on while the provider does not answer, and so does the wait."""
        hosted, heard = self._settings.hosted, 0
        end = time.monotonic() + 3600 * hosted.wait_hours
        while True:
            try:
                job, events = service.job(job.id), service.events(job.id)
                tell_events(events[heard:], tell)
                heard = len(events)
            except OutsideError as error:
                if time.monotonic() > end:
                    raise
                log.warning("%s The job goes on; so does the wait.", error)
            if job.ended:
                return job
            if self._stopped.wait(hosted.poll_seconds):
                service.cancel(job.id)
                todo = "Clear the task, or give the command again, to begin a new job."
                raise TrainerStopped(f"the job {job.id} was cancelled on request", "OpenAI", todo)
            if time.monotonic() > end:
                todo = "The job goes on there. Clear the task to wait on, or cancel it at the provider."
                what = f"the job {job.id} has not ended in {hosted.wait_hours:g} hours: it is {job.status}"
                raise ServiceDown(what, "train.hosted.wait_hours", todo)


def begin(service: FineTuning, spec: Spec, tell: Tell) -> Job:
    """The job of a spec: the one that an earlier attempt has begun, or a new one.

    The file's id is kept before the job is asked for, and a job is looked for by it: whenever this is killed, and
    whatever answer is lost, there is never a second job.

    Raises:
        ConfigError: a hosted training cannot go on from a parent here, or the provider refuses the request.
        DataError: an example cannot become a chat.
    """
    if spec.parent is not None:
        todo = "Run a full retrain with this profile."
        raise ConfigError("a hosted training cannot go on from a model that is here", f"profile {spec.profile}", todo)
    asked = hyperparameters(spec)
    kept = _begun(spec)
    begun = Begun.model_validate_json(kept.read_text()) if kept.is_file() else None
    if begun is None:
        examples = write_chats(spec)
        begun = Begun(file=service.upload(examples).id)
        write_text(kept, begun.model_dump_json())
        examples.unlink()
        tell("note", text=f"The examples are uploaded as {begun.file}.")
    if begun.job:
        job = service.job(begun.job)
    else:
        found = service.of_file(begun.file)
        job = found or service.create(spec.base_name, begun.file, asked, _SUFFIX, spec.seed)
        write_text(kept, Begun(file=begun.file, job=job.id).model_dump_json())
    tell("note", text=f"The job is {job.id}, it is {job.status.replace('_', ' ')}.")
    return job


def finish(service: FineTuning, spec: Spec, job: Job, tell: Tell, seconds: float) -> None:
    """Put what an ended job made at ``spec.finished``, and remove the examples from the provider.

    Raises:
        DataError: the provider found a fault in the file. TrainerFailed: the job failed, or was cancelled there.
    """
    events = service.events(job.id)
    with suppress(OpstuneError):  # it is removed with the account's other old files, if not now
        service.delete(job.training_file)
    if job.status != "succeeded" or not job.fine_tuned_model:
        _begun(spec).unlink(missing_ok=True)  # the next attempt is a new job
        raise failure(job, events)
    points = list(curve(events))
    told = result.facts(
        spec,
        points,
        holds="hosted",
        model=job.fine_tuned_model,
        job=job.id,
        steps=int(points[-1]["step"]) if points else None,
        epochs=hyperparameters(spec).n_epochs,
        tokens=job.trained_tokens,
        seconds=round(seconds, 1),
        too_long=[],
    )
    model = {"hosted": True, "model": job.fine_tuned_model, "base": spec.base_name, "job": job.id}
    result.put(spec, told, lambda folder: write_text(folder / MODEL_FILE, json.dumps(model, indent=1) + "\n"))
    tell("note", text=f"The provider has made {job.fine_tuned_model}.")


def model_of(folder: Path) -> str | None:
    """The id of the hosted model that a training left in its folder; none where its weights are here."""
    file = folder / MODEL_FILE
    return str(json.loads(file.read_text())["model"]) if file.is_file() else None


def _begun(spec: Spec) -> Path:
    return spec.work / "begun.json"
