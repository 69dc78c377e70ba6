"""The DAGs through Airflow's own scheduler, in an Airflow of the test's own: a drill that the gate must stop.

Two retrains are triggered at once, each for three training steps on a few days of history.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opstune import settings
from opstune.artifacts import open_ref
from opstune.simulate import write_history
from opstune_airflow import catalog
from opstune_airflow.client import Client
from opstune_airflow.standalone import Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2000)]

SMALL = {
    "OPSTUNE__SIMULATE__DAYS": "14",
    "OPSTUNE__SIMULATE__INCIDENTS_PER_DAY": "10",
    "OPSTUNE__DATASET__SKILLS": '["remediation"]',
    "OPSTUNE__DATASET__MINIMUM_TEST": "5",
    "OPSTUNE__EVALUATE__FREE_DECODING_SAMPLE": "0",
    "AIRFLOW_CONN_OPSTUNE_ALERT_RULES": '{"conn_type": "fs", "extra": {"path": "/no/such/folder"}}',  # one is down
    "OMP_NUM_THREADS": "1",  # two threads on a busy machine wait for each other more than they work
}
DRILL = {"max_steps": 3, "minimum": 50}
PATIENCE = 900.0


@dataclass(frozen=True)
class Drill:
    """Both runs, finished."""

    home: Path
    client: Client
    monthly: str
    weekly: str

    def run(self, dag_id: str) -> dict[str, Any]:
        return self.client.run(dag_id, self.run_id(dag_id))

    def run_id(self, dag_id: str) -> str:
        return self.monthly if dag_id == "retrain_monthly" else self.weekly

    def tasks(self, dag_id: str) -> dict[str, dict[str, Any]]:
        return {task["task_id"]: task for task in self.client.tasks(dag_id, self.run_id(dag_id))}

    def sources(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """The mapped tasks of collection, by what each says of its source."""
        mapped = [
            task for task in self.client.tasks(dag_id, self.run_id(dag_id)) if task["task_id"] == "collect.source"
        ]
        return {task["rendered_map_index"]: task for task in mapped}

    def folder(self, dag_id: str) -> Path:
        return self.home / "runs" / catalog.run_folder(dag_id, self.run_id(dag_id))


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """A throwaway Airflow in which both retrains were triggered at the same moment."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SMALL, "OPSTUNE_HOME": str(home)}.items():
            patch.setenv(name, value)
        write_history(home / "history", settings.load().simulate)
        airflow = Standalone(home, first_port=18080)
        try:
            airflow.start()
            client = airflow.client()
            runs = {}
            for dag_id in ("retrain_monthly", "retrain_weekly"):
                client.wait_for_dag(dag_id)
                client.unpause(dag_id)
                runs[dag_id] = client.trigger(dag_id, DRILL)
            for dag_id, run_id in runs.items():
                client.wait(dag_id, run_id, PATIENCE)
            yield Drill(home, client, runs["retrain_monthly"], runs["retrain_weekly"])
        finally:
            airflow.stop()


def test_a_rejected_model_is_a_green_run_whose_later_tasks_are_skipped(drill: Drill) -> None:
    assert drill.run("retrain_monthly")["state"] == "success"
    states = {task_id: task["state"] for task_id, task in drill.tasks("retrain_monthly").items()}
    before, after = ("turn", "collect", "dataset", "train", "evaluate", "gate"), ("convert", "register", "deploy")
    sources = "collect.source"  # one of them is down
    assert {state for task, state in states.items() if task.split(".")[0] in before and task != sources} == {"success"}
    assert {state for task, state in states.items() if task.split(".")[0] in after} == {"skipped"}


def test_the_reason_stands_in_the_note_the_log_and_the_xcom(drill: Drill) -> None:
    folder = drill.folder("retrain_monthly")
    verdict = json.loads((folder / "gate" / "verdict.json").read_text())
    assert verdict["verdict"] == "reject"
    assert verdict["sentence"] in drill.run("retrain_monthly")["note"]
    log = drill.client.log("retrain_monthly", drill.monthly, "gate.verdict", 1)
    assert any(verdict["sentence"] in line and "report.html" in line for line in log)
    told = drill.client.xcom("retrain_monthly", drill.monthly, "gate.verdict", "verdict")
    assert told["verdict"] == verdict["verdict"]


def test_nothing_was_promoted(drill: Drill) -> None:
    assert not list((drill.home / "models").glob("*"))


def test_one_retrain_waits_for_the_other(drill: Drill) -> None:
    def spans(dag_id: str) -> tuple[str, str]:
        work = [task for task_id, task in drill.tasks(dag_id).items() if task_id != "turn" and task["start_date"]]
        return min(task["start_date"] for task in work), max(task["end_date"] for task in work)

    first, second = sorted([spans("retrain_monthly"), spans("retrain_weekly")])
    assert first[1] <= second[0]


def test_an_incremental_retrain_without_a_champion_becomes_a_full_one_and_says_so(drill: Drill) -> None:
    run = drill.run("retrain_weekly")
    assert run["state"] == "success"
    assert "became a full one" in run["note"]
    assert drill.client.xcom("retrain_weekly", drill.weekly, "turn")["mode"] == "full"


def test_each_mapped_source_says_what_it_brought(drill: Drill) -> None:
    """Both retrains were triggered at once: whichever had its turn first found everything new, the other nothing."""
    labels = [label for dag_id in ("retrain_monthly", "retrain_weekly") for label in drill.sources(dag_id)]
    assert labels.count("runbooks: off") == 2
    remediations = [label for label in labels if label.startswith("remediations: ")]
    assert sorted(label.endswith(" 0 new") for label in remediations) == [False, True]


def test_a_source_that_is_down_fails_its_own_task_in_words_and_the_run_goes_on(drill: Drill) -> None:
    sources = drill.sources("retrain_monthly")
    failed = {label: task for label, task in sources.items() if task["state"] != "success"}
    assert [(label, task["state"], task["try_number"]) for label, task in failed.items()] == [
        ("alert_rules: failed", "failed", 1)
    ]
    (task,) = failed.values()
    log = drill.client.log("retrain_monthly", drill.monthly, "collect.source", 1, task["map_index"])
    assert any("no file matches *.jsonl" in line and "config/sources/alert_rules.yaml" in line for line in log)
    frozen = drill.client.log("retrain_monthly", drill.monthly, "collect.snapshot", 1)
    assert any("alert_rules: never read to its end" in line for line in frozen)


def test_no_secret_travelled(drill: Drill) -> None:
    for task_id in ("turn", "collect.snapshot", "dataset.build", "train.adapter"):
        assert "oncall.db" not in json.dumps(drill.client.xcom("retrain_monthly", drill.monthly, task_id))


def test_a_cleared_finished_stage_does_no_work_twice(drill: Drill) -> None:
    folder = drill.folder("retrain_monthly")
    made = {stage: (folder / stage / "manifest.json").stat().st_mtime_ns for stage in ("dataset", "train")}
    before = open_ref(folder / "train")
    drill.client.clear("retrain_monthly", drill.monthly, ["dataset.build", "train.adapter"])
    assert drill.client.wait("retrain_monthly", drill.monthly, PATIENCE) == "success"
    assert drill.tasks("retrain_monthly")["train.adapter"]["try_number"] == 2
    assert {stage: (folder / stage / "manifest.json").stat().st_mtime_ns for stage in made} == made
    assert open_ref(folder / "train") == before
