"""Trainings that are broken on purpose under a real Airflow: afterwards no orphan, no lease, and the same adapter.

The tiny profile trains for a few dozen steps in an Airflow of the test's own, in a DAG that is a training and
nothing else (``drill_dags``): a retrain would wait for its turn before it ever wanted a second device.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
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

pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(4000)]

DAG, TASK = "drill", "train.adapter"
STEPS = 60
SMALL = {
    "OPSTUNE__TRAIN__MAX_STEPS": str(STEPS),
    "OPSTUNE__TRAIN__CHECKPOINT_STEPS": "5",
    "OPSTUNE__TRAIN__PROGRESS_SECONDS": "1",
    "OMP_NUM_THREADS": "1",
    lease.NAMED: "cpu:0,cpu:1",
}
#: A scheduler that died is missed after half a minute rather than minutes.
QUICK = {"AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5"}
PATIENCE = 900.0


@dataclass(frozen=True)
class Place:
    """A running Airflow, and a training that nobody disturbed."""

    home: Path
    airflow: Standalone
    client: Client
    #: Workers of a scheduler that was killed: idle ones wait for it for ever.
    outlived: list[psutil.Process] = field(default_factory=list)

    def begin(self) -> str:
        return self.client.trigger(DAG)

    def end(self, run: str) -> str:
        return self.client.wait(DAG, run, PATIENCE)

    def task(self, run: str) -> dict[str, Any]:
        return self.client.tasks(DAG, run)[0]

    def log(self, run: str, attempt: int) -> str:
        return "\n".join(self.client.log(DAG, run, TASK, attempt))

    def folder(self, run: str) -> Path:
        return self.home / "runs" / catalog.run_folder(DAG, run) / "train"

    def saved(self, run: str) -> int:
        """The newest checkpoint's step."""
        return max(checkpoints.steps(self.folder(run).with_name("train.work") / "checkpoints"), default=0)

    def held(self) -> dict[str, dict[str, Any]]:
        """The devices that are held now, by name."""
        found = {}
        for file in (self.home / "leases").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[file.stem.rpartition("-")[2]] = json.loads(file.read_text())
        return found

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
        self.until(lambda: self.saved(run) >= 10, "a checkpoint")
        assert self.saved(run) < STEPS - 10, "too late to break it"
        return run

    def nothing_is_left(self) -> None:
        self.until(lambda: not self.trainers(), "the trainers to end", 90)
        self.until(lambda: not self.held(), "the leases to be free", 90)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("drills")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SMALL, "OPSTUNE_HOME": str(home)}.items():
            patch.setenv(name, value)
        (home / "dataset.json").write_text(dataset(home).model_dump_json())
        dags = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "drill_dags"),
            "OPSTUNE_DRILL_DATASET": str(home / "dataset.json"),
        }
        airflow = Standalone(home, environment={**SMALL, **QUICK, **dags}, first_port=18480)
        try:
            airflow.start()
            client = airflow.client()
            client.wait_for_dag(DAG)
            client.unpause(DAG)
            place = Place(home, airflow, client)
            yield place
            for process in place.outlived:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        finally:
            airflow.stop()


@pytest.fixture(scope="module")
def pair(place: Place) -> list[str]:
    """Two trainings that were begun at once on a pool of one slot, and that nobody disturbed."""
    runs = [place.begin(), place.begin()]
    assert [place.end(run) for run in runs] == ["success", "success"]
    place.nothing_is_left()
    return runs


@pytest.fixture(scope="module")
def undisturbed(place: Place, pair: list[str]) -> Path:
    """The adapter of a training that nobody disturbed."""
    return place.folder(pair[0])


def dataset(home: Path) -> Ref:
    """Signed by the home, as the dataset stage would."""
    examples = [example(number) for number in range(4 * STEPS + 40)]

    def make(partial: Path) -> dict[str, float]:
        return {"train": write_examples(partial / "train.parquet", examples)}

    folder = home / "runs" / "made" / "dataset"
    keys = settings.load().keys_dir
    return signing.signed(folder, keys, lambda: artifacts.build(folder, "dataset", {}, {}, make))


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


def same(one: Path, other: Path) -> bool:
    """Whether two adapters are equal, tensor by tensor."""
    with (
        safe_open(one / "adapter_model.safetensors", "np") as a,
        safe_open(other / "adapter_model.safetensors", "np") as b,
    ):
        names = sorted(a.keys())
        return names == sorted(b.keys()) and all((a.get_tensor(name) == b.get_tensor(name)).all() for name in names)


def resumed_from(folder: Path) -> int:
    return int(json.loads((folder / "training.json").read_text())["resumed_from"] or 0)


def test_on_one_slot_two_trainings_run_one_after_the_other(place: Place, pair: list[str]) -> None:
    first, second = sorted((place.task(run)["start_date"], place.task(run)["end_date"]) for run in pair)
    assert first[1] <= second[0]


def test_the_log_begins_with_the_preflight(place: Place, pair: list[str]) -> None:
    text = place.log(pair[0], 1)
    assert text.index("preflight: dataset:") < text.index("preflight: ok after") < text.index("step ")
    assert "GPU: none, this training runs on the CPU, so there is nothing to look at, ok" in text


def test_kill_9_of_the_task_resumes_to_the_same_adapter(place: Place, undisturbed: Path) -> None:
    run = place.training()
    [held] = place.held().values()
    os.kill(held["pid"], signal.SIGKILL)
    place.until(lambda: not [one for one in place.trainers() if one.ppid() == 1], "the orphan to end", 60)
    assert place.end(run) == "success"
    assert place.task(run)["try_number"] == 2
    place.nothing_is_left()
    assert resumed_from(place.folder(run)) >= 10
    assert same(place.folder(run), undisturbed)


def test_kill_9_of_the_scheduler_ends_in_the_same_adapter(place: Place, undisturbed: Path) -> None:
    run = place.training()
    scheduler = psutil.Process(place.airflow.pid("scheduler"))
    place.outlived.extend(scheduler.children(recursive=True))
    scheduler.kill()
    scheduler.wait(30)
    assert place.airflow.revive() == ["scheduler"]
    assert place.end(run) == "success"
    place.nothing_is_left()
    assert same(place.folder(run), undisturbed)


def test_a_task_marked_failed_ends_its_trainer_and_resumes_when_cleared(place: Place, undisturbed: Path) -> None:
    run = place.training()
    place.client.mark_task(DAG, run, TASK, "failed")
    place.nothing_is_left()
    assert place.end(run) == "failed"
    assert place.task(run)["state"] == "failed"
    assert "Told to stop" in place.log(run, 1)
    place.client.clear(DAG, run, [TASK])
    assert place.end(run) == "success"
    place.nothing_is_left()
    assert resumed_from(place.folder(run)) >= 10
    assert same(place.folder(run), undisturbed)


def test_on_two_slots_two_trainings_run_at_once_on_different_devices(place: Place, undisturbed: Path) -> None:
    place.client.set_pool("gpu", 2)
    runs = [place.begin(), place.begin()]
    place.until(lambda: len(place.held()) == 2, "both to hold a device")
    holders = {name: held["holder"] for name, held in place.held().items()}
    assert set(holders) == {"cpu:0", "cpu:1"} and len(set(holders.values())) == 2
    assert [place.end(run) for run in runs] == ["success", "success"]
    devices = [next(name for name in holders if f"holding device {name}" in place.log(run, 1)) for run in runs]
    assert sorted(devices) == ["cpu:0", "cpu:1"]
    place.nothing_is_left()
    assert all(same(place.folder(run), undisturbed) for run in runs)
