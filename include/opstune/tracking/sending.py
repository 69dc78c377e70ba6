"""A record into its MLflow run: nothing that is there already is sent a second time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opstune.tracking.tracker import Dataset, Point, Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits of one call
#: A step that is computed again after a resume differs by rounding, unless it was another step (half the rate).
_ROUNDING = 0.05
#: What a clock or the neighbours decide: of one step, one value is enough.
_OF_THE_MOMENT = ("train/tokens_per_second", "train/memory_mb", "system/")
ERROR_TAG = "error"


def send(client: MlflowClient, run: Run, record: Record) -> None:
    """Send a record; a parameter that has changed since is told in a tag, because MLflow's never change."""
    from mlflow.entities import Metric, Param, RunTag

    run_id, known = run.info.run_id, run.data.params
    # The status first: where the rest breaks off, the run must not look as if it still worked.
    _set_status(client, run, record)
    changed = {name: value for name, value in record.params.items() if known.get(name, value) != value}
    entities: dict[str, list[Any]] = {
        "params": [Param(name, value) for name, value in record.params.items() if name not in known],
        "tags": [RunTag(name, value) for name, value in {**record.tags, **changed}.items()],
        "metrics": [Metric(p.name, p.value, p.at, p.step) for p in _fresh(client, run, record.points)],
    }
    for kind, found in entities.items():
        for start in range(0, len(found), _BATCH[kind]):
            client.log_batch(run_id, **{kind: found[start : start + _BATCH[kind]]})
    if record.datasets:
        client.log_inputs(run_id, [_input(dataset) for dataset in record.datasets])
    for path in record.artifacts:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        elif path.is_file():
            client.log_artifact(run_id, str(path))
    if ERROR_TAG in run.data.tags and ERROR_TAG not in record.tags:
        client.delete_tag(run_id, ERROR_TAG)


def _set_status(client: MlflowClient, run: Run, record: Record) -> None:
    if record.status == "RUNNING":
        if run.info.status != "RUNNING":
            client.update_run(run.info.run_id, "RUNNING")
    else:
        client.set_terminated(run.info.run_id, record.status)


def _fresh(client: MlflowClient, run: Run, points: Sequence[Point]) -> list[Point]:
    """The points that the run does not have, each once."""
    there: dict[tuple[str, int], list[float]] = {}
    for name in {point.name for point in points} & set(run.data.metrics):
        for found in client.get_metric_history(run.info.run_id, name):
            there.setdefault((name, found.step), []).append(found.value)
    fresh = []
    for point in points:
        known = there.setdefault((point.name, point.step), [])
        if not any(_same(point, value) for value in known):
            known.append(point.value)
            fresh.append(point)
    return fresh


def _same(point: Point, value: float) -> bool:
    if point.name.startswith(_OF_THE_MOMENT):
        return True
    return math.isclose(point.value, value, rel_tol=_ROUNDING if point.name.startswith("train/") else 0.0)


def _input(dataset: Dataset) -> Any:
    from mlflow import entities

    found = entities.Dataset(
        name=dataset.name,
        digest=dataset.sha256[:32],
        source_type="opstune",
        source=json.dumps(dataset.source),
        profile=json.dumps(dataset.counts),
    )
    tags = [entities.InputTag("mlflow.data.context", "training"), entities.InputTag("sha256", dataset.sha256)]
    return entities.DatasetInput(found, tags)
