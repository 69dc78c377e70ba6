"""An Airflow of a drill's own, with a DAG that is a training and nothing else: what the drills share.

The tiny profile trains for a few dozen steps. A whole retrain would wait for its turn before it ever wanted a second
device.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors import safe_open

from opstune import artifacts, settings
from opstune.artifacts import Ref
from opstune.examples import Example, example_id
from opstune.security import signing
from opstune.tables import write_examples
from opstune.train import checkpoints
from opstune_airflow import catalog, lease
from opstune_airflow.client import Client
from opstune_airflow.standalone import Standalone

DAG, TASK = "drill", "train.adapter"
DEVICES = ("cpu:0", "cpu:1")
CHECKPOINT_STEPS = 5
#: A scheduler that died is missed after half a minute rather than minutes.
_QUICK = {"AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5"}
PATIENCE = 900.0


@dataclass(frozen=True)
class Place:
    """A running Airflow for trainings of ``steps`` steps."""

    home: Path
    airflow: Standalone
    client: Client
    steps: int
    #: Workers of a scheduler that was killed: idle ones wait for it for ever.
    outlived: list[psutil.Process] = field(default_factory=list)

    def begin(self, breaks: str = "") -> str:
        """Start a training, which breaks as ``drill_child`` knows how to."""
        return self.client.trigger(DAG, {"breaks": breaks})

    def end(self, run: str) -> str:
        return self.client.wait(DAG, run, PATIENCE)

    def task(self, run: str) -> dict[str, Any]:
        return self.client.tasks(DAG, run)[0]

    def log(self, run: str, attempt: int) -> str:
        return "\n".join(self.client.log(DAG, run, TASK, attempt))

    def folder(self, run: str) -> Path:
        return self.home / "runs" / catalog.run_folder(DAG, run) / "train"

    def facts(self, run: str) -> dict[str, Any]:
        """What a finished training says of itself."""
        found: dict[str, Any] = json.loads((self.folder(run) / "training.json").read_text())
        return found

    def saved(self, run: str) -> int:
        """The newest checkpoint's step."""
        return max(checkpoints.steps(self.folder(run).with_name("train.work") / "checkpoints"), default=0)

    def held(self) -> dict[str, dict[str, Any]]:
        """The devices that are held now, by name."""
        found = {}
        for file in (self.home / "leases").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[file.stem.rpartition("-")[2]] = json.loads(file.read_text())
        return {name: record for name, record in found.items() if name in DEVICES}

    def trainers(self) -> list[psutil.Process]:
        """Every process that was started under a lease of this place."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(lease.MARK, "").startswith(str(self.home)):
                    found.append(process)
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]

    def until(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"still waiting for {what}"
            time.sleep(0.2)

    def training(self) -> str:
        """Begin a training and wait until it is well on its way."""
        run = self.begin()
        self.until(lambda: self.saved(run) >= 2 * CHECKPOINT_STEPS, "a checkpoint")
        assert self.saved(run) < self.steps - 10, "too late to break it"
        return run

    def nothing_is_left(self) -> None:
        """No trainer runs, and whoever asks gets every device at once."""
        self.until(lambda: not self.trainers(), "the trainers to end", 90)
        self.until(lambda: not self.held(), "the leases to be given back", 90)
        with lease.device(self.home / "leases", "the drill", DEVICES, wait_seconds=0, count=len(DEVICES)):
            pass


@contextlib.contextmanager
def drilling(home: Path, steps: int, first_port: int, environment: Mapping[str, str] | None = None) -> Iterator[Place]:
    """A place, up and running; ``environment`` is its Airflow's, over what drills need."""
    small = {
        "OPSTUNE__TRAIN__MAX_STEPS": str(steps),
        "OPSTUNE__TRAIN__CHECKPOINT_STEPS": str(CHECKPOINT_STEPS),
        "OPSTUNE__TRAIN__PROGRESS_SECONDS": "1",
        "OMP_NUM_THREADS": "1",
        lease.NAMED: ",".join(DEVICES),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**small, "OPSTUNE_HOME": str(home)}.items():
            patch.setenv(name, value)
        examples = [example(number) for number in range(4 * steps + 40)]
        refs = {"good": dataset(home / "runs/made/dataset", examples)}
        refs["bad"] = dataset(home / "runs/bad/dataset", [*examples[:20], bad_example(20), *examples[21:]])
        file = home / "datasets.json"
        file.write_text(json.dumps({name: ref.model_dump() for name, ref in refs.items()}))
        dags = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "drill_dags"),
            "OPSTUNE_DRILL_DATASETS": str(file),
        }
        airflow = Standalone(
            home, environment={**small, **_QUICK, **dags, **(environment or {})}, first_port=first_port
        )
        try:
            airflow.start()
            client = airflow.client()
            client.wait_for_dag(DAG)
            client.unpause(DAG)
            place = Place(home, airflow, client, steps)
            yield place
            for process in place.outlived:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        finally:
            airflow.stop()


def dataset(folder: Path, examples: list[Example]) -> Ref:
    """Signed by the home, as the dataset stage would."""

    def make(partial: Path) -> dict[str, float]:
        return {"train": write_examples(partial / "train.parquet", examples)}

    return signing.signed(folder, settings.load().keys_dir, lambda: artifacts.build(folder, "dataset", {}, {}, make))


def example(number: int) -> Example:
    labels = {"pod": f"web-{number}", "namespace": "shop"}
    restart, nothing = {"function": "restart_pod", "parameters": labels}, {"function": "none", "parameters": {}}
    return Example.model_validate(
        {
            "id": example_id("drill", str(number), "remediation"),
            "skill": "remediation",
            "source": "drill",
            "source_id": str(number),
            "group_id": str(number),
            "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
            "context": {"alert": f"Alert{number % 7}", "labels": labels},
            "answer": nothing if number % 3 else restart,  # for no reason, so that there is always something to learn
        }
    )


def bad_example(number: int) -> Example:
    """One whose answer was taken out of functions.yaml after the dataset was built."""
    return example(number).model_copy(update={"answer": {"function": "format_disk", "parameters": {}}})


def same(one: Path, other: Path) -> bool:
    """Whether two adapters are equal, tensor by tensor."""
    with (
        safe_open(one / "adapter_model.safetensors", "np") as a,
        safe_open(other / "adapter_model.safetensors", "np") as b,
    ):
        names = sorted(a.keys())
        return names == sorted(b.keys()) and all((a.get_tensor(name) == b.get_tensor(name)).all() for name in names)
