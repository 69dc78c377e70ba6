"""What a stage tells about its retrain, gathered in memory as plain values until it is sent."""

from __future__ import annotations

import json
import math
import re
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from opstune.artifacts import Ref
from opstune.tracking.server import CREDENTIALS, RUN_TAG

__all__ = ["RUN_TAG", "Dataset", "Point", "Record", "Status", "Tracker", "flat"]

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
_SECRET_NAME = re.compile(r"password|secret|token$|api_?key|credential", re.IGNORECASE)
_LONGEST = 500  # MLflow's limit of a parameter, on servers of any age
#: Names of a training's points; MLflow makes a group of charts of what stands before a slash.
_CURVES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "tokens_per_second": "train/tokens_per_second",
    "memory_mb": "train/memory_mb",
    "validation_loss": "validation/loss",
}


#: What MLflow's own columns show of where a run came from.
_SOURCE = {"name": "opstune", "type": "JOB"}
#: Settings of a training that its lineage tells.
_IN_LINEAGE = {"asked", "base_name", "base_sha256", "parent_sha256", "seed"}


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Plain):
    """One value of a metric; ``at`` is in milliseconds since 1970."""

    name: str
    value: float
    step: int
    at: int


class Dataset(_Plain):
    """What was trained on. ``source`` says which run's stage made it, never where it stands."""

    name: str
    sha256: str
    source: dict[str, str]
    counts: dict[str, float]


class Record(_Plain):
    """Everything that is told at once about one retrain, as it waits on disk when MLflow is down."""

    run_id: str
    status: Status
    params: dict[str, str]
    tags: dict[str, str]
    points: list[Point]
    datasets: list[Dataset]
    artifacts: list[Path]


class Tracker:
    """Gathers what a stage tells about the retrain; other threads may tell while one sends."""

    def __init__(self) -> None:
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._points: list[Point] = []
        self._datasets: list[Dataset] = []
        self._artifacts: list[Path] = []
        self._clock: list[tuple[int, int]] = []
        self.finished = False

    def params(self, values: Mapping[str, Any], prefix: str = "") -> None:
        """Settings and other facts known before the work, nested ones as ``lora.rank``; one of none is left out."""
        self._params.update({name: _plain(name, value) for name, value in flat(values, prefix).items()})

    def tags(self, values: Mapping[str, Any]) -> None:
        self._tags.update({name: _plain(name, value) for name, value in values.items() if value is not None})

    def describe(self, text: str) -> None:
        """The run's description in MLflow, as Markdown."""
        self._tags["mlflow.note.content"] = text

    def metrics(self, values: Mapping[str, float], step: int = 0, at: int | None = None) -> None:
        """Figures of a step, told now unless ``at`` (milliseconds since 1970) says when; what is no number is not."""
        told = _now() if at is None else at
        self._points += [
            Point(name=name, value=float(value), step=step, at=told)
            for name, value in values.items()
            if math.isfinite(value)
        ]

    def progress(self, step: int, values: Mapping[str, float | None]) -> None:
        """How a training stands at a step that it has just reached."""
        self._clock.append((step, _now()))
        self._curves(values, step, _now())

    def dataset(self, name: str, ref: Ref) -> None:
        """What was trained on: its full sha256 is a tag, since MLflow's own digests are short or partial."""
        source = {"run": ref.path.parent.name, "stage": ref.path.name}
        self._datasets.append(Dataset(name=name, sha256=ref.sha256, source=source, counts=ref.counts))
        self.tags({f"{name}.sha256": ref.sha256})
        self.metrics({f"{name}/{count}": value for count, value in ref.counts.items()})

    def training(self, adapter: Ref) -> None:
        """The facts, the settings in use, the lineage and every point of a training, from what it left behind."""
        told = json.loads((adapter.path / "training.json").read_text())
        descent = lineage(adapter)
        self.tags({"adapter.sha256": adapter.sha256, **{f"lineage.{name}": value for name, value in descent.items()}})
        self.tags({f"mlflow.source.{name}": value for name, value in _SOURCE.items()})
        self.tags({"mlflow.source.git.commit": descent["git_revision"]})
        used = {name: value for name, value in told.get("settings", {}).items() if name not in _IN_LINEAGE}
        self.params(used, "used")
        self.metrics({f"training/{name}": value for name, value in adapter.counts.items()})
        ends = {name: told.get(name) for name in ("chosen_step", "ended")}
        self.tags({f"training.{name}": value for name, value in ends.items()})
        measured = [{"step": point["step"], "validation_loss": point["loss"]} for point in told.get("validation", [])]
        for point in [*told.get("curve", []), *told.get("progress", []), *measured]:
            self._curves(point, int(point["step"]), self._when(int(point["step"])))

    def artifact(self, path: Path) -> None:
        """A file or folder to keep with the run; it must still be there when the stage ends."""
        self._artifacts.append(path)

    def finish(self) -> None:
        """This stage is the retrain's last: when it ends, the run is finished."""
        self.finished = True

    def told(self) -> bool:
        return any((self._params, self._tags, self._points, self._datasets, self._artifacts, self.finished))

    def record(self, run_id: str, status: Status) -> Record:
        """Everything that was told so far."""
        return Record(
            run_id=run_id,
            status=status,
            params=dict(self._params),
            tags=dict(self._tags),
            points=list(self._points),
            datasets=list(self._datasets),
            artifacts=list(self._artifacts),
        )

    def _curves(self, point: Mapping[str, float | None], step: int, at: int) -> None:
        known = {_CURVES[name]: value for name, value in point.items() if name in _CURVES and value is not None}
        self.metrics(known, step, at)

    def _when(self, step: int) -> int:
        """When a step was reached, between the two nearest steps that were told while the training ran."""
        if not self._clock:
            return _now()
        place = bisect_left(self._clock, (step, 0))
        if place in (0, len(self._clock)):
            return self._clock[min(place, len(self._clock) - 1)][1]
        (before, then), (after, later) = self._clock[place - 1 : place + 1]
        return round(then + (later - then) * (step - before) / max(after - before, 1))


def lineage(adapter: Ref) -> dict[str, Any]:
    """What an adapter descends from, out of the manifest that is sealed and signed with it.

    The parent is named by its version, which is the name of its folder in the registry.
    """
    manifest = adapter.manifest
    settings, inputs = manifest["settings"], manifest["inputs"]
    parent = Ref.model_validate(inputs["parent"]) if inputs.get("parent") else None
    profile = settings.get("profile", {})
    return {
        "parent": parent.path.parent.name if parent else "base",
        "parent_sha256": parent.sha256 if parent else None,
        "dataset_sha256": inputs["dataset"]["sha256"],
        "base": profile.get("base"),
        "base_revision": settings.get("base_revision"),
        "base_sha256": settings.get("base_sha256"),
        "seed": settings.get("train", {}).get("seed"),
        "packages": ", ".join(f"{name} {version}" for name, version in manifest["packages"].items()),
        "git_revision": manifest["git_revision"],
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names; lists as words; what is none or empty is left out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            found.update(flat(value, key))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found.update({key: ", ".join(map(str, value))} if value else {})
        elif value is not None:
            found[key] = value
    return found


def _plain(name: str, value: Any) -> str:
    """A value as text without secrets; of a path only its name, since where it stands is one machine's business."""
    if _SECRET_NAME.search(name):
        return "***"
    text = value.name if isinstance(value, Path) else str(value)
    return CREDENTIALS.sub("***@", text)[:_LONGEST]


def _now() -> int:
    return int(time.time() * 1000)
