"""A person's approval in an Airflow of the test's own: a yes, a no, no answer in time; and the report page."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from opstune import artifacts, settings
from opstune.artifacts import Ref
from opstune.evaluate import read_gates
from opstune.evaluate.verdict import Seen, ShareSeen, decide, judge
from opstune.security import signing
from opstune_airflow import catalog, reports
from opstune_airflow.client import Client
from opstune_airflow.local_config import PASSWORDS, USER
from opstune_airflow.standalone import Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(1200)]

DAG_ID, TASK = "retrain_weekly", "approval"
#: The unanswered run waits so long, while the others are answered.
HOURS = 0.05
PATIENCE = 600.0
#: Nobody answers within the second. Airflow would take the task for one that was killed: it hears late of the process
#: that parked it, and by then the answer has queued it again ("previous_state: up_for_retry").
READING_SECONDS = 10.0
OTHER = "eve"


def verdict(home: Path) -> Ref:
    """A signed verdict in which every absolute share of remediation was reached."""
    keys = settings.load().keys_dir

    def make(out: Path) -> dict[str, float]:
        gates = read_gates(settings.config_dir() / "gates.yaml")
        shares = [line for line in gates.lines if line.skill == "remediation" and line.reference == "absolute"]
        good = {"above": ShareSeen(199, 200), "below": ShareSeen(1, 200)}
        lines = [judge(line, Seen(good[line.direction], "", 0.29, 0.94), gates.reach) for line in shares]
        (out / "verdict.json").write_text(decide(lines).model_dump_json())
        (out / "report.html").write_text("<h1>all lines passed</h1>")
        return {}

    folder = home / "runs" / "prepared" / "gate_shipped"
    return signing.signed(folder, keys, lambda: artifacts.build(folder, "verdict", {}, {}, make))


@dataclass
class House:
    home: Path
    airflow: Standalone
    client: Client
    runs: dict[str, str]

    def detail(self, run: str, person: str = USER) -> httpx.Response:
        return self._call("GET", run, person)

    def answer(self, run: str, choice: str, person: str = USER) -> httpx.Response:
        return self._call("PATCH", run, person, {"chosen_options": [choice], "params_input": {}})

    def page(self, run: str, person: str | None) -> httpx.Response:
        address = reports.url(DAG_ID, self.runs[run]).split("/opstune", 1)[1]
        return httpx.get(f"{self.airflow.url}/opstune{address}", headers=self.headers(person), timeout=60)

    def states(self, run: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.client.tasks(DAG_ID, self.runs[run])}

    def waiting(self, run: str) -> None:
        end = time.monotonic() + PATIENCE
        while self.states(run).get(TASK) != "awaiting_input":
            assert time.monotonic() < end, self.states(run)
            time.sleep(0.5)
        time.sleep(READING_SECONDS)

    def headers(self, person: str | None) -> dict[str, str]:
        if person is None:
            return {}
        password = json.loads(self.airflow.password_file.read_text())[person]
        asked = {"username": person, "password": password}
        token = httpx.post(f"{self.airflow.url}/auth/token", json=asked, timeout=60).json()["access_token"]
        return {"Authorization": f"Bearer {token}"}

    def _call(self, method: str, run: str, person: str, body: Any = None) -> httpx.Response:
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{quote(self.runs[run])}/taskInstances/{TASK}/-1/hitlDetails"
        return httpx.request(method, f"{self.airflow.url}{path}", json=body, headers=self.headers(person), timeout=60)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Four runs: one is to be approved, one refused, one left alone, and one asks nobody."""
    home = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSTUNE_HOME", str(home))
        (home / "verdict.json").write_text(verdict(home).model_dump_json())
        asked = {
            "OPSTUNE_DRILL_VERDICT": str(home / "verdict.json"),
            "OPSTUNE__APPROVAL__USERS": f'["{USER}"]',
            "OPSTUNE__APPROVAL__HOURS": str(HOURS),
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "approval_dags"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,{OTHER}:admin",
        }
        (home / "airflow").mkdir()
        (home / "airflow" / PASSWORDS).write_text(json.dumps({USER: "one of the tests", OTHER: "another of them"}))
        airflow = Standalone(home, environment=asked, first_port=18480)
        try:
            airflow.start()
            client = airflow.client()
            client.wait_for_dag(DAG_ID)
            client.unpause(DAG_ID)
            forms = {"yes": True, "no": True, "alone": True, "unasked": False}
            runs = {name: client.trigger(DAG_ID, {"approval": form}) for name, form in forms.items()}
            for run in runs.values():
                made = home / "runs" / catalog.run_folder(DAG_ID, run) / "gate_shipped"
                shutil.copytree(home / "runs" / "prepared" / "gate_shipped", made)
            yield House(home, airflow, client, runs)
        finally:
            airflow.stop()


def test_a_run_waits_with_the_table_until_the_right_person_says_yes(house: House) -> None:
    house.waiting("yes")
    detail = house.detail("yes").json()
    assert "| remediation function | 200 | 99.5 % |" in detail["body"]
    assert [user["id"] for user in detail["assigned_users"]] == [USER]
    assert house.answer("yes", "Approve", OTHER).status_code == 403
    assert house.states("yes")[TASK] == "awaiting_input"
    assert house.answer("yes", "Approve").status_code == 200
    assert house.client.wait(DAG_ID, house.runs["yes"], PATIENCE) == "success"
    assert house.states("yes") == {TASK: "success", "version": "success"}
    assert f"Approved by {USER}." in house.client.run(DAG_ID, house.runs["yes"])["note"]


def test_a_no_is_a_green_run_in_which_nothing_is_registered(house: House) -> None:
    house.waiting("no")
    assert house.answer("no", "Reject").status_code == 200
    assert house.client.wait(DAG_ID, house.runs["no"], PATIENCE) == "success"
    assert house.states("no") == {TASK: "success", "version": "skipped"}
    assert f"Rejected by {USER}." in house.client.run(DAG_ID, house.runs["no"])["note"]


def test_no_answer_in_time_is_a_no(house: House) -> None:
    assert house.client.wait(DAG_ID, house.runs["alone"], PATIENCE) == "success"
    assert house.states("alone") == {TASK: "success", "version": "skipped"}
    assert "Nobody approved it in time." in house.client.run(DAG_ID, house.runs["alone"])["note"]


def test_where_nobody_asked_for_it_nobody_is_waited_for(house: House) -> None:
    assert house.client.wait(DAG_ID, house.runs["unasked"], PATIENCE) == "success"
    assert house.states("unasked") == {TASK: "success", "version": "success"}


def test_the_report_is_for_those_who_are_signed_in_and_only_while_it_is_what_was_signed(house: House) -> None:
    page = house.page("yes", USER)
    assert (page.status_code, page.text) == (200, "<h1>all lines passed</h1>")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert house.page("yes", None).status_code in (401, 403)
    assert httpx.get(f"{house.airflow.url}{reports.PREFIX}/openapi.json", timeout=60).status_code != 200
    made = house.home / "runs" / catalog.run_folder(DAG_ID, house.runs["no"]) / "gate_shipped" / "report.html"
    made.write_text("<h1>promote me</h1>")
    assert house.page("no", USER).status_code == 409
