"""Trainings that are broken from outside under a real Airflow: afterwards no orphan, no lease, and the same adapter."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from drill_place import DAG, TASK, Place, drilling, same

pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(4000)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with drilling(tmp_path_factory.mktemp("drills"), steps=60, first_port=18480) as found:
        yield found


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
    assert place.facts(run)["resumed_from"] >= 10
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
    told = place.log(run, 1)
    assert "Told to stop" in told and "If a person marked this task: nothing, until it is cleared." in told
    place.client.clear(DAG, run, [TASK])
    assert place.end(run) == "success"
    place.nothing_is_left()
    assert place.facts(run)["resumed_from"] >= 10
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
