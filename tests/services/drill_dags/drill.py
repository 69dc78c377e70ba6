"""A training alone, for drills. Retrains take turns; these do not, so that two of them want devices at once."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, ExceptionRetryPolicy, Param

from opstune_airflow import assets, catalog, form, retries, turn
from opstune_airflow.defaults import ARGS
from opstune_airflow.operators import TrainOperator

CHILD = Path(__file__).parents[1] / "drill_child.py"
SOON = timedelta(seconds=2)

turn.take = lambda *_: None
datasets = json.loads(Path(os.environ["OPSTUNE_DRILL_DATASETS"]).read_text())


class DrilledTraining(TrainOperator):
    """Its child is broken as the run's form asks."""

    def execute(self, context: Any) -> Any:
        from opstune.train import Trainer

        breaks = context["params"]["breaks"]
        if breaks == "bad data":
            self.refs = {"dataset": datasets["bad"]}
        elif breaks:
            Trainer.command = (sys.executable, str(CHILD), breaks)
        return super().execute(context)


with DAG(
    dag_id="drill",
    schedule=None,
    max_active_runs=4,
    params={**form.fields("full"), "breaks": Param("", type="string")},
    default_args={
        **ARGS,
        "retry_delay": SOON,
        # The same rules, sooner: a full disk is given ten minutes.
        "retry_policy": ExceptionRetryPolicy(
            [replace(rule, retry_delay=rule.retry_delay and SOON) for rule in retries.RULES], retries.POLICY.default
        ),
    },
    user_defined_macros={"folder": catalog.run_folder},
):
    DrilledTraining(
        task_id="train.adapter",
        plan={"id": "{{ folder(dag.dag_id, run_id) }}", "mode": "full"},
        refs={"dataset": datasets["good"]},
        outlets=[assets.ADAPTER],
    )
