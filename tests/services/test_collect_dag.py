"""The collect DAG in an Airflow of the test's own, against real servers: whole, again, and with one that is down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from alert_truth import DAY, groups, history, series
from fault_server import FaultServer
from linear_issues import issues
from linear_server import KEY, SUBSET, Linear
from postgres import Postgres, running, short_folder
from prometheus_server import backfill, prometheus
from sqlalchemy import create_engine

from opstune import settings
from opstune.simulate import write_history
from opstune.store import ExampleStore
from opstune_airflow.client import Client
from opstune_airflow.standalone import Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(1200)]

SMALL = {"OPSTUNE__SIMULATE__DAYS": "10", "OPSTUNE__SIMULATE__INCIDENTS_PER_DAY": "6"}
EPISODES = 200
ISSUES = 60
FAR_BACK = {"days_back": 3650}
PATIENCE = 600.0
#: A reviewed incident once more, under another id.
LATE = """
    INSERT INTO incidents
    SELECT (jsonb_populate_record(i, jsonb_build_object('id', 'INC-LATE', 'updated_at', now()))).*
    FROM incidents AS i WHERE state = 'reviewed' LIMIT 1
"""


@dataclass(frozen=True)
class House:
    """A running Airflow and what it is connected to."""

    home: Path
    client: Client
    postgres: Postgres

    def collect(self, form: dict[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
        """Run the DAG to its end; its state and its sources by their labels."""
        run = self.client.trigger("collect", form)
        state = self.client.wait("collect", run, PATIENCE)
        return state, self.sources(run)

    def sources(self, run: str) -> dict[str, dict[str, Any]]:
        mapped = [task for task in self.client.tasks("collect", run) if task["task_id"] == "collect.source"]
        return {str(task["rendered_map_index"]): task for task in mapped}

    def stored(self) -> dict[str, int]:
        found = pd.Series([example.source for example in ExampleStore(self.home / "examples").read()])
        return {str(source): int(count) for source, count in found.value_counts().items()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    now = int(time.time()) * 1000
    truths = history(7, EPISODES, now - 31 * DAY, now - DAY)
    backfill(home / "prometheus", series(truths))
    linear = Linear(SUBSET, [one.issue for one in issues(ISSUES)])
    with (
        pytest.MonkeyPatch.context() as patch,
        short_folder() as folder,
        running(folder / "cluster") as postgres,
        prometheus(home / "prometheus", groups()) as alerts,
        FaultServer(linear) as issue_server,
    ):
        for name, value in {**SMALL, "OPSTUNE_HOME": str(home)}.items():
            patch.setenv(name, value)
        write_history(home / "history", settings.load().simulate)
        copy_tables(home / "history" / "oncall.db", postgres)
        connections = {
            "AIRFLOW_CONN_OPSTUNE_PROMETHEUS": alerts,
            "AIRFLOW_CONN_OPSTUNE_DATABASE": postgres.url(),
            "AIRFLOW_CONN_OPSTUNE_LINEAR": issue_server.url.replace("://", f"://:{KEY}@"),
        }
        patience = {"ATTEMPTS": "1", "BACKOFF_SECONDS": "0", "TIMEOUT_SECONDS": "5"}
        asked = {f"OPSTUNE__COLLECT__PATIENCE__{name}": value for name, value in patience.items()}
        airflow = Standalone(home, environment={**connections, **asked}, first_port=18280)
        try:
            airflow.start()
            client = airflow.client()
            client.wait_for_dag("collect")
            client.unpause("collect")
            yield House(home, client, postgres)
        finally:
            airflow.stop()


def copy_tables(database: Path, postgres: Postgres) -> None:
    """The generated incident database into Postgres, its times as times."""
    target = create_engine(postgres.url().replace("postgres://", "postgresql+psycopg://"))
    source = create_engine(f"sqlite:///{database}")
    tables = pd.read_sql("SELECT name FROM sqlite_master WHERE type = 'table'", source)["name"]
    for table in tables:
        rows = pd.read_sql(f"SELECT * FROM {table}", source)
        for column in [name for name in rows if str(name).endswith("_at") or name == "at"]:
            rows[column] = pd.to_datetime(rows[column], utc=True, errors="coerce", format="ISO8601")
        rows.to_sql(str(table), target, index=False)
    source.dispose()
    target.dispose()


def test_every_source_arrives_through_the_dag_and_a_second_run_adds_nothing(house: House) -> None:
    state, sources = house.collect(FAR_BACK)
    assert state == "success", sources
    stored = house.stored()
    assert stored["alert_episodes"] >= EPISODES
    assert stored["linear_incidents"] == ISSUES
    assert stored["remediations"] > 0 and stored["incidents"] > 0 and stored["task_logs"] > 0
    off = {label.split(":")[0] for label in sources if label.endswith(": off")}
    assert off >= {"alert_rules", "runbooks"} and not off & set(stored)

    state, sources = house.collect({})
    assert state == "success"
    assert {label.split(": ")[1] for label in sources} == {"off", "0 new"}
    assert house.stored() == stored


def test_one_source_that_is_down_fails_alone_and_its_retry_brings_what_was_missed(house: House) -> None:
    before = house.stored()
    house.postgres.stop()
    run = house.client.trigger("collect", {})
    down = waiting(house, run)
    house.postgres.start()
    house.postgres.run(LATE)
    assert house.client.wait("collect", run, PATIENCE) == "success"
    log = house.client.log("collect", run, "collect.source", 1, down["map_index"])
    assert any("the database does not answer" in line and "Tried again in" in line for line in log)
    assert house.stored() == {**before, "incidents": before["incidents"] + 1}


def test_a_retrain_refuses_a_source_that_was_last_read_too_long_ago_and_tells_the_age_of_all(house: House) -> None:
    limit = settings.load().collect.max_staleness_days
    mark = house.home / "examples" / "watermarks" / "incidents.json"
    long_ago = datetime.now(UTC) - timedelta(days=limit + 1)
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "collected_at": long_ago.isoformat()}))
    house.postgres.stop()
    try:
        house.client.wait_for_dag("retrain_weekly")
        house.client.unpause("retrain_weekly")
        run = house.client.trigger("retrain_weekly", {})
        assert house.client.wait("retrain_weekly", run, PATIENCE) == "failed"
    finally:
        house.postgres.start()
    tasks = {task["task_id"]: task for task in house.client.tasks("retrain_weekly", run)}
    assert tasks["collect.snapshot"]["state"] == "failed" and tasks["collect.snapshot"]["try_number"] == 1
    assert tasks["dataset.build"]["state"] == "upstream_failed"
    log = "\n".join(house.client.log("retrain_weekly", run, "collect.snapshot", 1))
    assert f"incidents ({limit + 1:.1f} days); collect.max_staleness_days is {limit:g}" in log
    assert "alert_episodes: read 0" in log and "runbooks: off" in log
    assert "Mend the source" in log


def waiting(house: House, run: str) -> dict[str, Any]:
    """The task of a source on Postgres once its first attempt has failed; the others have ended well by then."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        sources = house.sources(run)
        failed = [task for task in sources.values() if task["state"] == "up_for_retry"]
        if failed and all(task["state"] in ("up_for_retry", "success") for task in sources.values()):
            return failed[0]
        time.sleep(0.5)
    raise AssertionError(house.sources(run))
