"""A training alone, for drills. Retrains take turns; these do not, so that two of them want devices at once."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from opstune_airflow import assets, catalog, form, turn
from opstune_airflow.defaults import ARGS
from opstune_airflow.operators import TrainOperator

turn.take = lambda *_: None

with DAG(
    dag_id="drill",
    schedule=None,
    max_active_runs=4,
    params=form.fields("full"),
    default_args={**ARGS, "retry_delay": timedelta(seconds=2)},
    user_defined_macros={"folder": catalog.run_folder},
):
    TrainOperator(
        task_id="train.adapter",
        plan={"id": "{{ folder(dag.dag_id, run_id) }}", "mode": "full"},
        refs={"dataset": json.loads(Path(os.environ["OPSTUNE_DRILL_DATASET"]).read_text())},
        outlets=[assets.ADAPTER],
    )
