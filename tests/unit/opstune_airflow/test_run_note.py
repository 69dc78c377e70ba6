"""The note on a DAG run: what fits into it, and what tasks left for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session

from opstune_airflow import run_note
from opstune_airflow.run_note import fitting

RUN: Any = SimpleNamespace(dag_id="retrain_weekly", run_id="manual__1")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "note"),
    [
        (["It is the champion.", "It passed."], "It is the champion.\n\nIt passed."),
        (["a" * 600, "b" * 398], "a" * 600 + "\n\n" + "b" * 398),
        (["a" * 600, "b" * 399, "c"], "a" * 600),
        (["a" * 1000, "b"], "a" * 1000),
        (["a" * 1001], "a" * 996 + " ..."),
    ],
)
def test_a_note_holds_whole_paragraphs_and_never_more_than_its_column(told: list[str], note: str) -> None:
    assert fitting(told) == note
    assert len(fitting(told)) <= 1000


def test_the_latest_comes_first_and_a_skipped_task_says_what_it_said_this_time_only() -> None:
    from airflow.models import import_all_models
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel

    import_all_models()
    ran: list[tuple[str, str, int, int]] = [  # task, state, minutes at which it started and spoke
        ("verdict", "success", 1, 2),
        ("measure", "success", 30, 31),
        ("approval", "skipped", 32, 8),  # before the run was cleared
        ("champion", "skipped", 33, 34),  # the form said not to deploy
    ]
    engine = create_engine("sqlite://")
    TaskInstance.metadata.create_all(engine)
    with Session(engine) as session:
        for task, state, started, spoke in ran:
            same = {"dag_id": RUN.dag_id, "run_id": RUN.run_id, "task_id": task, "map_index": -1}
            at = NOON + timedelta(minutes=started)
            started_row = {**same, "id": uuid4(), "state": state, "start_date": at, "pool": "gpu", "pool_slots": 1}
            session.execute(insert(TaskInstance.__table__).values(started_row))
            said = {
                "dag_run_id": 1,
                "key": run_note.KEY,
                "value": f"{task} spoke",
                "timestamp": NOON + timedelta(minutes=spoke),
            }
            session.execute(insert(XComModel.__table__).values({**same, **said}))
        assert run_note._left_by_tasks(session, RUN) == ["champion spoke", "measure spoke", "verdict spoke"]
