"""One MLflow run a retrain, found again by its run id, so that a retry or the next stage joins it.

MLflow takes seconds to import: what a stage tells is gathered and sent in a few calls when the
stage ends, and a stage that tells nothing never imports it. Secrets and home paths are not sent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from opstune.artifacts import Ref
from opstune.errors import ServiceDown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

RUN_TAG = "opstune.run_id"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_NAME = re.compile(r"password|secret|token$|api_?key|credential", re.IGNORECASE)
_LONGEST = 500  # MLflow's limit of a parameter, on servers of any age
_BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits of one call


class Tracker:
    """Gathers what a stage tells about the retrain; nothing is sent before the stage ends."""

    def __init__(self) -> None:
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._metrics: list[tuple[str, float, int]] = []
        self._datasets: list[tuple[str, Ref]] = []
        self._artifacts: list[Path] = []

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings and other facts known before the work; a value of none is left out."""
        self._params.update({name: _plain(name, value) for name, value in values.items() if value is not None})

    def tags(self, values: Mapping[str, Any]) -> None:
        self._tags.update({name: _plain(name, value) for name, value in values.items() if value is not None})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self._metrics += [(name, float(value), step) for name, value in values.items()]

    def dataset(self, name: str, ref: Ref) -> None:
        """What was trained on: its full sha256 is a tag, since MLflow's own digests are short or partial."""
        self._datasets.append((name, ref))
        self.tags({f"{name}.sha256": ref.sha256})
        self.metrics({f"{name}.{count}": value for count, value in ref.counts.items()})

    def training(self, adapter: Ref) -> None:
        """The facts and the loss curve that a training wrote into ``training.json``."""
        told = json.loads((adapter.path / "training.json").read_text())
        self.tags({"adapter.sha256": adapter.sha256})
        self.metrics({f"train.{name}": value for name, value in adapter.counts.items()})
        for point in told.get("curve", []):
            step = int(point["step"])
            self.metrics({f"train.{name}": value for name, value in point.items() if name != "step"}, step)

    def artifact(self, path: Path) -> None:
        """A file or folder to keep with the run; it must still be there when the stage ends."""
        self._artifacts.append(path)

    def told(self) -> bool:
        return any((self._params, self._tags, self._metrics, self._datasets, self._artifacts))

    def send(self, client: MlflowClient, run: Run) -> None:
        """Send everything once; what the run has already is not sent a second time."""
        from mlflow.entities import Metric, Param, RunTag

        run_id, now = run.info.run_id, int(time.time() * 1000)
        # A parameter of MLflow never changes; a retry with another value says so in a tag.
        known = run.data.params
        params = [Param(name, value) for name, value in self._params.items() if name not in known]
        changed = {name: value for name, value in self._params.items() if known.get(name, value) != value}
        tags = [RunTag(name, value) for name, value in {**self._tags, **changed}.items()]
        there = {
            (point.key, point.value, point.step)
            for name in {name for name, _, _ in self._metrics} & set(run.data.metrics)
            for point in client.get_metric_history(run_id, name)
        }
        fresh = [point for point in self._metrics if point not in there]
        metrics = [Metric(name, value, now, step) for name, value, step in fresh]
        for kind, entities in {"metrics": metrics, "params": params, "tags": tags}.items():
            for start in range(0, len(entities), _BATCH[kind]):
                client.log_batch(run_id, **{kind: entities[start : start + _BATCH[kind]]})
        if self._datasets:
            client.log_inputs(run_id, [_dataset_input(name, ref) for name, ref in self._datasets])
        for path in self._artifacts:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))


@contextmanager
def run(tracking_uri: str, experiment: str, run_id: str) -> Iterator[Tracker]:
    """Tell about one stage of a retrain: gathered in the block, sent when it ends or fails.

    Args:
        run_id: opstune's id of the retrain; the MLflow run that carries it is joined, or made.

    Raises:
        ServiceDown: MLflow did not take it. An error of the block itself is never hidden by this.
    """
    tracker = Tracker()
    try:
        yield tracker
    except BaseException:
        if tracker.told():
            try:
                _send(tracker, tracking_uri, experiment, run_id, "FAILED")
            except ServiceDown as error:
                log.warning("%s", error)
        raise
    if tracker.told():
        _send(tracker, tracking_uri, experiment, run_id, "FINISHED")


def _send(tracker: Tracker, tracking_uri: str, experiment: str, run_id: str, status: str) -> None:
    with reachable(tracking_uri):
        client = connect(tracking_uri)
        with _one_writer(tracking_uri):
            joined = _join(client, _experiment(client, tracking_uri, experiment), run_id)
        tracker.send(client, joined)
        client.set_terminated(joined.info.run_id, status)


def find(tracking_uri: str, experiment: str, run_id: str) -> str | None:
    """MLflow's own id of a retrain's run, or none."""
    with reachable(tracking_uri):
        client = connect(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        found = _runs(client, known.experiment_id, run_id) if known else []
        return str(found[0].info.run_id) if found else None


@cache
def connect(tracking_uri: str) -> MlflowClient:
    """A quiet client: no telemetry, no pickles, no migration noise. The first use makes the database."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    if (database := _database(tracking_uri)) is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    for noisy in ("mlflow.store.db.utils", "mlflow.store.model_registry", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri, registry_uri=tracking_uri)


@contextmanager
def reachable(tracking_uri: str) -> Iterator[None]:
    """Turn MLflow's own errors into ours: ServiceDown, without the address's password."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        what, where = (_CREDENTIALS.sub("", text) for text in (str(error).splitlines()[0], tracking_uri))
        todo = "Check the tracking server and try again."
        raise ServiceDown(f"MLflow did not answer as expected: {what}", where, todo) from error


def _join(client: MlflowClient, experiment_id: str, run_id: str) -> Run:
    """The retrain's run. Where two made one at once on a server, the older stands and the other goes."""
    found = _runs(client, experiment_id, run_id)
    if not found:
        client.create_run(experiment_id, tags={RUN_TAG: run_id}, run_name=run_id)
        found = _runs(client, experiment_id, run_id)
    for twin in found[1:]:
        client.delete_run(twin.info.run_id)
    return found[0]


def _runs(client: MlflowClient, experiment_id: str, run_id: str) -> list[Run]:
    quoted = run_id.replace("'", "")
    return list(
        client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{quoted}'", order_by=["attributes.start_time ASC"])
    )


def _experiment(client: MlflowClient, tracking_uri: str, name: str) -> str:
    if known := client.get_experiment_by_name(name):
        return str(known.experiment_id)
    database = _database(tracking_uri)
    location = (database.parent / "mlruns").as_uri() if database else None
    return str(client.create_experiment(name, artifact_location=location))


@contextmanager
def _one_writer(tracking_uri: str) -> Iterator[None]:
    """Between looking for a run and making it nobody else may make it; on a server ``_join`` tidies up."""
    database = _database(tracking_uri)
    if database is None:
        yield
        return
    with FileLock(database.with_name(f".{database.name}.lock")):
        yield


def _database(tracking_uri: str) -> Path | None:
    """The file of an SQLite address, else none."""
    return Path(tracking_uri.removeprefix("sqlite:///")) if tracking_uri.startswith("sqlite:///") else None


def _dataset_input(name: str, ref: Ref) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"run": ref.path.parent.name, "stage": ref.path.name})
    profile = json.dumps(ref.counts)
    dataset = Dataset(name=name, digest=ref.sha256[:32], source_type="opstune", source=source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training"), InputTag("sha256", ref.sha256)])


def _plain(name: str, value: Any) -> str:
    """A value as text without secrets; of a path only its name, since where it stands is one machine's business."""
    if _SECRET_NAME.search(name):
        return "***"
    text = value.name if isinstance(value, Path) else str(value)
    return _CREDENTIALS.sub("***@", text)[:_LONGEST]
