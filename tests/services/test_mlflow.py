"""A real training beside a real MLflow server: told while it runs, whatever the server does meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run as MlflowRun
from mlflow_server import MlflowServer
from tcp_proxy import TcpProxy

from opstune import pipeline, settings, tracking
from opstune.artifacts import Ref
from opstune.errors import TrainerKilled
from opstune.pipeline import Run
from opstune.settings import Settings
from opstune.simulate import write_history
from opstune.tracking import Place
from opstune.train import Progress, Trainer

STEPS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def load(home: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """The configuration of one home with its history, connected to the server or to what stands before it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on busy cores two threads wait for each other
    monkeypatch.setattr("opstune.pipeline.run._LIVE_SECONDS", 0.2)

    def load(url: str = server.url) -> Settings:
        history = home / "history"
        urls = {"opstune_database": f"sqlite:///{history / 'oncall.db'}", "opstune_files": str(history)}
        return settings.load(
            {
                "home": home,
                "simulate": {"days": 6, "incidents_per_day": 8},
                "dataset": {"minimum": 100, "minimum_test": 1},
                "train": {"max_steps": STEPS, "checkpoint_steps": 2, "progress_seconds": 0.01},
                "connections": {name: {"url": at} for name, at in {**urls, "opstune_mlflow": url}.items()},
            }
        )

    return load


@pytest.fixture
def dataset(load: Callable[..., Settings], server: MlflowServer) -> Ref:
    """One dataset for all, built once; its run is told like any other."""
    found = load()
    write_history(found.home / "history", found.simulate)
    run = Run("given", "full", found)
    return pipeline.dataset(run, pipeline.snapshot(run, pipeline.collect_all(found)))


def stored(server: MlflowServer, run_id: str) -> MlflowRun:
    client = tracking.connect(server.url)
    known = client.get_experiment_by_name("opstune")
    assert known is not None
    found = client.search_runs([known.experiment_id], f"tags.`{tracking.RUN_TAG}` = '{run_id}'")
    assert len(found) == 1
    return found[0]


def points(server: MlflowServer, run: MlflowRun, name: str) -> list[int]:
    return sorted(point.step for point in tracking.connect(server.url).get_metric_history(run.info.run_id, name))


def test_a_training_is_seen_while_it_runs_and_whole_afterwards(
    load: Callable[..., Settings], dataset: Ref, server: MlflowServer
) -> None:
    seen: list[tuple[str, str | None]] = []

    def look(progress: Progress) -> None:
        if progress.step == STEPS:
            return
        found = tracking.find(server.url, "opstune", "seen")
        while found is None:
            found = tracking.find(server.url, "opstune", "seen")
        run = stored(server, "seen")
        seen.append((run.info.status, run.data.params.get("profile.lora.rank")))

    ref = pipeline.run_training(Run("seen", "full", load(), alone=True), dataset, on_progress=look)
    assert set(seen) == {("RUNNING", "32")}
    run = stored(server, "seen")
    assert run.info.status == "FINISHED"
    for name in ("loss", "learning_rate", "gradient_norm"):
        assert points(server, run, f"train/{name}") == list(range(1, STEPS + 1))
    assert {"train/tokens_per_second", "train/memory_mb", "training/loss"} <= set(run.data.metrics)
    assert run.data.tags["adapter.sha256"] == ref.sha256
    assert run.data.tags["lineage.dataset_sha256"] == run.data.tags["dataset.sha256"] == dataset.sha256
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["dataset"]
    assert not [name for name in run.data.params if str(load().home) in run.data.params[name]]


@pytest.mark.parametrize("down", ["at the start", "in the middle", "at the end", "hanging"])
def test_a_server_that_is_down_costs_no_training_and_hears_of_it_later(
    load: Callable[..., Settings], dataset: Ref, server: MlflowServer, down: str
) -> None:
    run_id = down.replace(" ", "-")
    with TcpProxy(server.port) as proxy:
        far = 1_000_000

        def fail(progress: Progress) -> None:
            begins = {"at the start": 1, "in the middle": 2, "at the end": STEPS, "hanging": 1}[down]
            ends = {"in the middle": STEPS}.get(down)
            if progress.step == begins:
                proxy.hang, proxy.refuse = down == "hanging", 0 if down == "hanging" else far
                proxy.cut()
            if progress.step == ends:
                proxy.refuse = 0

        if down == "at the start":
            proxy.refuse = far
        asked = load(f"http://127.0.0.1:{proxy.port}")
        ref = pipeline.run_training(Run(run_id, "full", asked, alone=True), dataset, on_progress=fail)
        assert ref.counts["steps"] == STEPS
        waiting = asked.home / "tracking"
        assert bool(list(waiting.glob("*.json"))) is (down != "in the middle")
    with Run("another", "full", load()).tracked() as tracker:
        tracker.metrics({"told": 1.0})
    assert not list(waiting.glob("*.json"))
    run = stored(server, run_id)
    assert run.info.status == "FINISHED"
    assert points(server, run, "train/loss") == list(range(1, STEPS + 1))


def test_a_killed_training_is_killed_and_its_retry_goes_on_in_the_same_run(
    load: Callable[..., Settings], dataset: Ref, server: MlflowServer
) -> None:
    run, trainers = Run("retried", "full", load()), list[Trainer]()

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            trainers[0].stop()

    with pytest.raises(TrainerKilled):
        pipeline.run_training(run, dataset, started=trainers.append, on_progress=stop)
    first = stored(server, "retried")
    assert first.info.status == "KILLED"
    assert "error" in first.data.tags
    pipeline.run_training(run, dataset)
    again = stored(server, "retried")
    assert again.info.run_id == first.info.run_id
    assert again.info.status == "RUNNING"  # an evaluation follows
    assert "error" not in again.data.tags
    for name in ("loss", "learning_rate", "tokens_per_second"):
        steps = points(server, again, f"train/{name}")
        assert len(steps) == len(set(steps))
    assert points(server, again, "train/loss") == list(range(1, STEPS + 1))


def test_a_server_that_comes_back_hears_what_it_missed(server: MlflowServer, tmp_path: Path, load: Any) -> None:
    load()
    place = Place(server.url, "opstune", tmp_path / "waiting")
    server.stop()
    try:
        with tracking.run(place, "restarted") as tracker:
            tracker.progress(3, {"loss": 0.5})
        assert len(list(place.waiting.glob("*.json"))) == 1
    finally:
        server.start()
    with tracking.run(place, "restarted") as tracker:
        tracker.finish()
    run = stored(server, "restarted")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"train/loss": 0.5})


def test_processes_of_different_homes_that_race_make_one_run(server: MlflowServer, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from opstune import tracking\n"
        "tracking.connect(sys.argv[1]).get_experiment_by_name('opstune')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "place = tracking.Place(sys.argv[1], 'opstune', Path(sys.argv[2]) / sys.argv[3])\n"
        "with tracking.run(place, 'raced') as tracker:\n"
        "    tracker.metrics({f'from-{sys.argv[3]}': 1.0})\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, server.url, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.communicate("go\n", timeout=240)
        assert racer.returncode == 0
    assert set(stored(server, "raced").data.metrics) == {"from-0", "from-1", "from-2"}
