"""MLflow itself: a quiet client, its errors in our words, and the one run that carries a retrain's id."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from opstune.errors import AccessDenied, InputError, OpstuneError, ServiceDown, causes

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_TAG = "opstune.run_id"
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
#: What MLflow answers to a request that it will refuse again, however often it is asked.
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "PERMISSION_DENIED"}
#: A stage does not wait longer than some seconds for a server that is down; MLflow's own defaults are minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


#: MLflow's pages then begin with trainings and their curves rather than with traces.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


@cache
def connect(tracking_uri: str) -> MlflowClient:
    """A quiet client: no telemetry, no pickles, no migration noise. The first use makes the database.

    Where two processes make one SQLite file at once, MLflow leaves half a migration behind and never opens it again.
    """
    for name, value in {**_PATIENCE, **_QUIET}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for noisy in ("mlflow.store.db.utils", "mlflow.store.model_registry", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for retrying in ("urllib3.connectionpool", "mlflow.utils.rest_utils"):
        logging.getLogger(retrying).setLevel(logging.ERROR)
    with _alone(tracking_uri):
        client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    # Before each write to a registered model it asks whether that is a prompt: one more request, with one more login.
    # Where another MLflow names this otherwise, it merely asks again.
    client._raise_if_prompt = lambda name: None
    return client


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Hold the file of an SQLite address against whoever else opens it first."""
    if (file := database(tracking_uri)) is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.making.lock"):
        yield


@contextmanager
def reachable(tracking_uri: str) -> Iterator[None]:
    """Turn MLflow's own errors into ours, without the address's password.

    Raises:
        ServiceDown: MLflow did not answer, or not as expected; asking again may help.
        AccessDenied: it refused the login, or what this login wanted to do.
        InputError: it refused what it was asked.
    """
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        # A log shows the cause as well, with its own words and those of what it came from.
        hide_login(error)
        what, where = (CREDENTIALS.sub("", text) for text in (str(error).splitlines()[0], tracking_uri))
        kind: type[OpstuneError] = InputError if getattr(error, "error_code", "") in _REFUSALS else ServiceDown
        if isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
            kind = AccessDenied
        told, todo = {
            AccessDenied: (
                "MLflow refused the login",
                "Look at the connection opstune_mlflow, and what it may do there.",
            ),
            InputError: ("MLflow refused", "Look at what was sent, and at what this login may do there."),
            ServiceDown: ("MLflow did not answer as expected", "Check the tracking server and try again."),
        }[kind]
        raise kind(f"{told}: {what}", where, todo) from error


def hide_login(error: BaseException) -> None:
    """Take the login out of the addresses that an error names, and the errors that it came from."""
    for one in causes(error):
        one.args = tuple(CREDENTIALS.sub("", text) if isinstance(text, str) else text for text in one.args)


def find(tracking_uri: str, experiment: str, run_id: str) -> str | None:
    """MLflow's own id of a retrain's run, or none."""
    with reachable(tracking_uri):
        client = connect(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        found = runs(client, known.experiment_id, run_id) if known else []
        return str(found[0].info.run_id) if found else None


def join(client: MlflowClient, tracking_uri: str, experiment: str, run_id: str) -> Run:
    """The retrain's run. Where two made one at once on a server, one of them stands and the other goes."""
    experiment_id = _experiment(client, tracking_uri, experiment)
    found = runs(client, experiment_id, run_id)
    if not found:
        client.create_run(experiment_id, tags={RUN_TAG: run_id}, run_name=run_id)
        found = runs(client, experiment_id, run_id)
    for twin in found[1:]:
        client.delete_run(twin.info.run_id)
    return found[0]


def runs(client: MlflowClient, experiment_id: str, run_id: str) -> list[Run]:
    """All runs that carry the id, in the same order for everybody: those that hold something first, then the oldest."""
    quoted = run_id.replace("'", "")
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{quoted}'")

    def order(run: Run) -> tuple[bool, int, str]:
        return not (run.data.params or run.data.metrics), run.info.start_time, run.info.run_id

    return sorted(found, key=order)


def database(tracking_uri: str) -> Path | None:
    """The file of an SQLite address, else none."""
    return Path(tracking_uri.removeprefix("sqlite:///")) if tracking_uri.startswith("sqlite:///") else None


def _experiment(client: MlflowClient, tracking_uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    if known := client.get_experiment_by_name(name):
        return str(known.experiment_id)
    file = database(tracking_uri)
    location = (file.parent / "mlruns").as_uri() if file else None
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
    except MlflowException:  # another process made it in between
        if known := client.get_experiment_by_name(name):
            return str(known.experiment_id)
        raise
