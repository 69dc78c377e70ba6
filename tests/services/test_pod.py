"""The trainer as a pod, through the provider's own operator and client, against a stand-in for Kubernetes' API."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from kube_server import Kube, Status, cluster

from opstune import artifacts, settings
from opstune.artifacts import Ref
from opstune.errors import (
    AccessDenied,
    DataError,
    OpstuneError,
    OutOfHostMemory,
    ServiceDown,
    TrainerFailed,
    TrainerKilled,
)
from opstune.settings import Settings
from opstune.train import Progress, Trainer, load_profile
from opstune_airflow.pod import CONNECTION, Pod

BEGIN = """
import json, os, pathlib, subprocess, sys, time
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
work = pathlib.Path(spec["work"])
def tell(event, **facts): print(json.dumps({"event": event, **facts}), flush=True)
def finish():
    done = work / "finished"
    done.mkdir()
    (done / "adapter_model.safetensors").write_text("weights")
    (done / "training.json").write_text(json.dumps({"steps": 4, "tokens": 100, "loss": 0.5}))
tell("begins", step=0, of=9)
"""
FACTS = "step=1, of=9, loss=2.5, learning_rate=0.01, tokens_per_second=900.0, memory_mb=300.0, seconds_left=75.0"


class State(dict[str, Any]):
    """What survives a retry, as Airflow's task state store."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    with cluster(tmp_path / "kube") as (found, config):
        extra = {"kube_config_path": str(config)}
        connection = {"conn_type": "kubernetes", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(connection))
        yield found


@pytest.fixture
def asked(tmp_path: Path) -> Settings:
    claims = [{"claim": "opstune", "path": str(tmp_path)}]
    pod = {"image": "registry.example.com/opstune:1", "claims": claims, "gpu_resource": ""}
    return settings.load({"train": {"place": "pod", "checkpoint_steps": 2}, "pod": pod})


@pytest.fixture
def dataset(tmp_path: Path) -> Ref:
    def make(partial: Path) -> dict[str, float]:
        (partial / "train.parquet").write_text("rows")
        return {"train": 4}

    return artifacts.build(tmp_path / "dataset", "dataset", {}, {}, make)


Make = Callable[..., Trainer]


@pytest.fixture
def in_pod(tmp_path: Path, kube: Kube, asked: Settings, dataset: Ref) -> Make:
    """A trainer whose command is the given program, in a pod."""
    store = State()

    def make(
        program: str, on_progress: Callable[[Progress], None] | None = None, start_minutes: float = 1.0
    ) -> Trainer:
        class StandIn(Trainer):
            command = (sys.executable, "-c", BEGIN + program)

        patient = asked.model_copy(update={"pod": asked.pod.model_copy(update={"start_minutes": start_minutes})})

        profile = load_profile("tiny")
        task = SimpleNamespace(
            dag_id="d", task_id="t", map_index=-1, try_number=1, start_date=None, xcom_push=lambda *_, **__: None
        )
        context: Any = {"ti": task, "run_id": "r", "dag": SimpleNamespace(parent_dag=None), "task_state_store": store}
        place = Pod(patient, profile, context, CONNECTION)
        return StandIn(tmp_path / "train", dataset, profile, asked.train, on_progress=on_progress, place=place)

    return make


def test_a_pod_trains_and_its_parent_hears_it_and_seals_the_result(in_pod: Make, kube: Kube) -> None:
    told: list[Progress] = []
    trainer = in_pod(f"tell('progress', {FACTS}); finish(); print('noise', file=sys.stderr)", told.append)
    assert artifacts.verify(trainer.run()).counts == {"steps": 4, "tokens": 100, "loss": 0.5}
    assert [progress.step for progress in told] == [1]
    assert (trainer.work / "trainer.log").read_text() == "noise\n"
    assert not kube.pods
    [container] = kube.made[0]["spec"]["containers"]
    assert container["command"][0] == "python" and container["command"][-1] == str(trainer.work / "spec.json")
    names = {entry["name"] for entry in container["env"]}
    assert {"HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"} <= names
    assert not {name for name in names if "AIRFLOW" in name or "CONN" in name}


def out_of_memory(status: Status, code: int) -> None:
    status["containerStatuses"][0]["state"]["terminated"]["reason"] = "OOMKilled"


def evicted(status: Status, code: int) -> None:
    status.update(reason="Evicted", message="The node was low on resource: memory.", containerStatuses=None)


def no_such_program(status: Status, code: int) -> None:
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    terminated.update(reason="StartError", exitCode=128, message='exec: "python": not found')


def nothing(status: Status, code: int) -> None:
    """As the process ended."""


TOLD = "tell('failed', kind='DataError', what='example 7 is bad'); sys.exit(3)"


@pytest.mark.parametrize(
    ("program", "ends", "kind", "words"),
    [
        (TOLD, nothing, DataError, "example 7 is bad"),
        ("sys.exit(137)", out_of_memory, OutOfHostMemory, r"ran over its memory limit .*OOMKilled"),
        ("sys.exit(1)", evicted, TrainerKilled, r"\(Evicted\): The node was low on resource: memory"),
        ("sys.exit(1)", no_such_program, TrainerFailed, "could not start the trainer"),
        ("sys.exit(137)", nothing, TrainerKilled, "signal 9"),
        ("raise ValueError('wrong shape')", nothing, TrainerFailed, "ValueError: wrong shape"),
        ("sys.exit(0)", nothing, TrainerFailed, "without a result"),
    ],
)
def test_each_end_of_a_pod_has_its_error(
    in_pod: Make, kube: Kube, program: str, ends: Any, kind: type[OpstuneError], words: str
) -> None:
    kube.ends = ends
    trainer = in_pod(program)
    with pytest.raises(kind, match=words):
        trainer.run()
    assert not kube.pods, "a pod that ended is not left in the cluster"


def test_a_pod_out_of_memory_is_tried_again_with_half_the_batch(in_pod: Make, kube: Kube) -> None:
    kube.ends = out_of_memory
    for batch in (4, 2):
        trainer = in_pod("sys.exit(137)")
        with pytest.raises(OutOfHostMemory):
            trainer.run()
        assert json.loads((trainer.work / "spec.json").read_text())["batch_size"] == batch


def test_a_pod_that_somebody_deleted_is_told_and_resumed(in_pod: Make, kube: Kube) -> None:
    trainer = in_pod("time.sleep(60)")
    threading.Thread(
        target=lambda: (wait(lambda: kube.processes), time.sleep(3), kube.delete(next(iter(kube.pods))))
    ).start()
    with pytest.raises(TrainerKilled, match="somebody deleted it"):
        trainer.run()


def test_stop_deletes_the_pod(in_pod: Make, kube: Kube) -> None:
    trainer = in_pod("time.sleep(60)")
    threading.Thread(target=lambda: (wait(lambda: kube.processes), time.sleep(3), trainer.stop())).start()
    with pytest.raises(TrainerKilled, match="stopped on request"):
        trainer.run()
    assert not kube.pods
    [process] = kube.processes.values()
    assert not psutil.pid_exists(process.pid)


def test_a_pod_whose_worker_died_is_joined_rather_than_doubled(in_pod: Make, kube: Kube) -> None:
    first = in_pod("time.sleep(8); finish()")
    worker = multiprocessing.get_context("fork").Process(target=first.run)
    worker.start()
    wait(lambda: kube.processes)
    time.sleep(2)
    worker.kill()
    worker.join()
    assert in_pod("sys.exit(9)").run().counts["steps"] == 4
    assert len(kube.made) == 1


@pytest.mark.parametrize(("code", "kind"), [(403, AccessDenied), (500, ServiceDown)])
def test_a_cluster_that_refuses_is_told(in_pod: Make, kube: Kube, code: int, kind: type[OpstuneError]) -> None:
    kube.refuses = code
    with pytest.raises(kind):
        in_pod("finish()").run()


def test_a_pod_that_never_starts_says_so(in_pod: Make, kube: Kube) -> None:
    kube.starts = False
    with pytest.raises(ServiceDown, match="did not start"):
        in_pod("finish()", start_minutes=0.05).run()
    assert not kube.pods


def wait(look: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
