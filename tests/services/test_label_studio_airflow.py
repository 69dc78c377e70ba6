"""Annotation under Airflow's own scheduler and triggerer, against a real Label Studio: the hourly DAG, and a retrain
that was asked to wait for people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from annotation_place import LEAVE, RESTART, Place, alert
from label_studio import TOKEN, People, label_studio

from opstune_airflow.client import Client
from opstune_airflow.standalone import Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

PATIENCE = 400.0


@dataclass(frozen=True)
class Running:
    """An Airflow whose annotation is connected, and the place that it shares with the test."""

    place: Place
    client: Client
    logs: Path

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        found = [task for task in self.client.tasks(dag_id, run_id) if task["task_id"] == task_id]
        return found[0]

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, f"still waiting for {what}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("waiting")
    with label_studio(folder / "label-studio") as url, pytest.MonkeyPatch.context() as patch:
        people = People(url)
        patch.setenv("OPSTUNE_HOME", str(folder / "home"))
        place = Place(folder, url, patch, people)
        place.store.upsert(alert(number) for number in range(3))
        connection = {"conn_type": "http", "host": url, "password": TOKEN}
        environment = {
            "AIRFLOW_CONN_OPSTUNE_LABEL_STUDIO": json.dumps(connection),
            "OPSTUNE__ANNOTATE__POLL_SECONDS": "1",
            "OPSTUNE__ANNOTATE__AUDIT_SHARE": "0",
            "OPSTUNE__ANNOTATE__SHARED": "0",
        }
        airflow = Standalone(folder / "home", environment=environment, first_port=18180)
        try:
            airflow.start()
            yield Running(place, airflow.client(), airflow.log_folder)
        finally:
            airflow.stop()
            people.close()


def test_the_hourly_run_asks_and_takes_for_every_project(running: Running) -> None:
    client, place = running.client, running.place
    client.wait_for_dag("annotate")
    client.unpause("annotate")
    run = client.trigger("annotate")
    assert client.wait("annotate", run, PATIENCE) == "success"
    tasks = client.tasks("annotate", run)
    labels = {task["rendered_map_index"] for task in tasks if task["task_id"] == "annotate.push"}
    assert labels == {"remediation: 3 new", "root_cause: 0 new", "log_error: 0 new", "query_quality: 0 new"}
    place.annotate([0], RESTART, "ann@example.org")
    again = client.trigger("annotate")
    assert client.wait("annotate", again, PATIENCE) == "success"
    pulled = {
        task["rendered_map_index"] for task in client.tasks("annotate", again) if task["task_id"] == "annotate.pull"
    }
    assert "remediation: 1 answered" in pulled
    assert place.read()["0"].answer["function"] == "restart_pod"
    assert not any(TOKEN in file.read_text(errors="replace") for file in running.logs.rglob("*.log"))


def test_a_retrain_that_waits_for_people_holds_no_worker_and_goes_on_when_they_are_done(running: Running) -> None:
    client, place = running.client, running.place
    client.wait_for_dag("retrain_weekly")
    client.unpause("retrain_weekly")
    run = client.trigger("retrain_weekly", {"wait_for_annotation": True, "mode": "full"})
    wait = ("retrain_weekly", run, "collect.annotation")
    running.until(lambda: running.task(*wait)["state"] == "deferred", "the wait")
    running.until(lambda: any("tasks are done" in line for line in client.log(*wait, 1)), "the first line")
    assert running.task("retrain_weekly", run, "collect.snapshot")["state"] is None
    place.annotate([1, 2], LEAVE, "ann@example.org")
    running.until(lambda: running.task("retrain_weekly", run, "collect.snapshot")["state"] == "success", "the snapshot")
    assert running.task(*wait)["state"] == "success"
    assert client.xcom("retrain_weekly", run, "collect.annotation")[0]["source"]
    assert [place.read()[n].answer["function"] for n in "12"] == ["none", "none"]
    log = "\n".join(client.log(*wait, 1))
    for told in ("1 of 3 tasks are done in Label Studio (remediation 1 of 3)", "3 of 3 tasks are done in Label Studio"):
        assert told in log
    client.wait("retrain_weekly", run, PATIENCE)  # it ends at the dataset: three examples are too few
    assert running.task("retrain_weekly", run, "dataset.build")["state"] == "failed"
