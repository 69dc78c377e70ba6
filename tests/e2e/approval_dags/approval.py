"""The approval of a retrain alone, for a drill: what would train and measure for minutes is a verdict made before."""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.sdk import DAG, task

from opstune_airflow import catalog, form, turn
from opstune_airflow.approval import Approval
from opstune_airflow.defaults import ARGS

turn.take = lambda *_: None

with DAG(
    dag_id="retrain_weekly",
    schedule=None,
    max_active_runs=4,
    params=form.fields("full"),
    default_args=ARGS,
    user_defined_macros={"folder": catalog.run_folder},
):

    @task(task_id="version")
    def register() -> str:
        return "registered"

    (
        Approval(
            task_id="approval",
            plan={"id": "{{ folder(dag.dag_id, run_id) }}", "mode": "full"},
            shipped={"shipped_verdict": json.loads(Path(os.environ["OPSTUNE_DRILL_VERDICT"]).read_text())},
        )
        >> register()
    )
