"""A stage and its retrain's run: told when it ends and, where it is long, while it runs; nothing is lost in between."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import ValidationError

from opstune.artifacts import write_text
from opstune.errors import AccessDenied, InputError, OpstuneError, ServiceDown, TrainerKilled
from opstune.tracking.sending import ERROR_TAG, send
from opstune.tracking.server import connect, join, reachable
from opstune.tracking.tracker import Record, Status, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_LOCK_SECONDS = 30.0
#: Between SIGTERM and SIGKILL Airflow leaves a task 5 s, and the trainer has used some.
_GOODBYE_SECONDS = 2.0
_REFUSED = ".refused"


@dataclass(frozen=True)
class Place:
    """Where retrains are told about, and the folder where records wait while nobody listens."""

    tracking_uri: str
    experiment: str
    waiting: Path

    def deliver(self, record: Record) -> None:
        """Send what waits, then this; what MLflow does not take waits for whatever is sent next. Never raises."""
        try:
            self._send_waiting()
            self.send(record)
        except (OpstuneError, Timeout) as error:
            self.keep(record)
            log.warning("%s What this stage tells waits in %s and is sent with the next.", _words(error), self.waiting)

    def send(self, record: Record) -> None:
        """Send one record to its run, which is joined or made; one sender of a home at a time.

        Raises:
            ServiceDown: MLflow did not take it.
            InputError: MLflow will not take it.
        """
        with reachable(self.tracking_uri):
            client = connect(self.tracking_uri)  # importing MLflow takes seconds, and needs nobody else to wait
            with self._alone():
                self._send(client, record)

    def _send(self, client: MlflowClient, record: Record) -> None:
        """Send, and again where a sender of another home has meanwhile put its own run in the place of ours."""
        from mlflow.exceptions import MlflowException

        run = join(client, self.tracking_uri, self.experiment, record.run_id)
        while True:
            failed = None
            try:
                send(client, run, record)
            except MlflowException as error:
                failed = error
            standing = join(client, self.tracking_uri, self.experiment, record.run_id)
            if standing.info.run_id == run.info.run_id:
                break
            run = standing
        if failed:
            raise failed

    def keep(self, record: Record) -> None:
        """Put a record where it waits; their names keep the order in which they were told."""
        write_text(self.waiting / f"{time.time_ns()}-{os.getpid()}.json", record.model_dump_json())

    def _send_waiting(self) -> None:
        for file in sorted(self.waiting.glob("*.json")):
            try:
                self.send(Record.model_validate_json(file.read_text()))
            except FileNotFoundError:  # another sender was quicker
                continue
            except AccessDenied:  # what a wrong password keeps out is still good once the password is right
                raise
            except (InputError, ValidationError) as error:
                log.warning("%s is set aside: %s", file, error)
                file.replace(file.with_suffix(_REFUSED))
                continue
            log.info("Told MLflow what had waited in %s.", file.name)
            file.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.waiting.mkdir(parents=True, exist_ok=True)
        with FileLock(self.waiting / ".lock", timeout=_LOCK_SECONDS):
            yield


class _Live:
    """Sends what a long stage has told so far, every so many seconds, from a thread of its own."""

    def __init__(self, place: Place, tracker: Tracker, run_id: str, seconds: float) -> None:
        self._place, self._tracker, self._run_id, self._seconds = place, tracker, run_id, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="mlflow")
        self._sent = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """End it; false where it hangs in a server that neither answers nor refuses."""
        self._ended.set()
        self._thread.join(_GOODBYE_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        down = False
        while not self._ended.wait(self._seconds):
            record = self._tracker.record(self._run_id, "RUNNING")
            try:
                self._place.send(record.model_copy(update={"points": record.points[self._sent :]}))
            except (OpstuneError, Timeout) as error:
                if not down:
                    log.warning("%s The training goes on; MLflow is told later.", _words(error))
                down = True
                continue
            down, self._sent = False, len(record.points)


@contextmanager
def run(place: Place, run_id: str, *, last: bool = False, live_seconds: float | None = None) -> Iterator[Tracker]:
    """Tell about one stage of a retrain: gathered in the block, sent when it ends or fails.

    The MLflow run that carries the id is joined, or made. It stays RUNNING between stages, is FINISHED after
    one that is ``last`` (or says ``finish``), FAILED after an error, KILLED where a person or a signal ended it.
    ``live_seconds`` is how often a stage that takes long is told while it runs; a shorter one is told once.
    An MLflow that is down fails no stage and hides no error.
    """
    tracker = Tracker()
    live = _Live(place, tracker, run_id, live_seconds) if live_seconds else None
    if live:
        live.start()
    status: Status = "RUNNING"
    try:
        yield tracker
        if last or tracker.finished:
            status = "FINISHED"
    except BaseException as error:
        status = "KILLED" if isinstance(error, TrainerKilled | KeyboardInterrupt | SystemExit) else "FAILED"
        tracker.tags({ERROR_TAG: _words(error)})
        raise
    finally:
        answers = live.stop() if live else True
        if tracker.told() or status != "RUNNING":
            record = tracker.record(run_id, status)
            place.deliver(record) if answers else place.keep(record)


def _words(error: BaseException) -> str:
    """An error as its sentence; of one that is not ours only its kind, since it may quote anything."""
    if isinstance(error, Timeout):
        error = ServiceDown("another process has been telling MLflow for too long", "tracking", "Look at the server.")
    return str(error) if isinstance(error, OpstuneError) else type(error).__name__
