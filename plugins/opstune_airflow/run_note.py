"""The note on a DAG run, where a person looks first: the verdict, or where the run broke.

Tasks have no way to write it, so they leave sentences as XComs under the key ``note`` and this
listener, which runs in the scheduler beside its database, puts them together when the run ends: what came last
stands first, since Airflow's pages show the beginning only, and a later verdict may undo an earlier one.

It stays in the scheduler's own transaction, in a savepoint of the connection. Both other ways end the
scheduler: a session of one's own (which every ``@provide_session`` method opens when it is given none)
detaches its objects, and a savepoint of its session counts as a commit, which it forbids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.listeners import hookimpl

from opstune_airflow.catalog import DAGS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

KEY: Final = "note"

_LONGEST: Final = 1000  # the column's width


@hookimpl
def on_dag_run_success(dag_run: DagRun) -> None:
    _write(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun) -> None:
    _write(dag_run)


def _write(dag_run: DagRun) -> None:
    from airflow.models.dagrun import DagRunNote
    from sqlalchemy import delete, insert, select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None or dag_run.dag_id not in DAGS:
        return
    with session.no_autoflush:
        told = [*_failures(session, dag_run), *_left_by_tasks(session, dag_run)]
    if not told:
        return
    connection = session.connection()
    with connection.begin_nested():
        mine = DagRunNote.dag_run_id == dag_run.id
        written = connection.execute(select(DagRunNote.user_id).where(mine)).one_or_none()
        if written and written.user_id:
            return  # a person's own note
        connection.execute(delete(DagRunNote).where(mine))
        connection.execute(insert(DagRunNote).values(dag_run_id=dag_run.id, content=fitting(told)))


def fitting(told: list[str]) -> str:
    """As many of the paragraphs as the column holds, each whole; of a first one that is too long, its beginning."""
    note = told[0] if len(told[0]) <= _LONGEST else f"{told[0][: _LONGEST - 4]} ..."
    for words in told[1:]:
        if len(note) + 2 + len(words) > _LONGEST:
            break
        note = f"{note}\n\n{words}"
    return note


def _left_by_tasks(session: Session, dag_run: DagRun) -> list[str]:
    """The latest first; what a task left before it was cleared, and was skipped then, is no longer true."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import and_, or_, select

    mine = XComModel.dag_id == dag_run.dag_id, XComModel.run_id == dag_run.run_id, XComModel.key == KEY
    left_by = and_(
        TaskInstance.dag_id == XComModel.dag_id,
        TaskInstance.run_id == XComModel.run_id,
        TaskInstance.task_id == XComModel.task_id,
        TaskInstance.map_index == XComModel.map_index,
    )
    # Only of the skipped: their start and this timestamp may come from two machines' clocks.
    true = or_(TaskInstance.state != "skipped", XComModel.timestamp >= TaskInstance.start_date)
    asked = select(XComModel).join(TaskInstance, left_by).where(*mine, true)
    rows = session.scalars(asked.order_by(XComModel.timestamp.desc()))
    return [str(XComModel.deserialize_value(row)) for row in rows]


def _failures(session: Session, dag_run: DagRun) -> list[str]:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    mine = TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id, TaskInstance.state == "failed"
    failed = sorted(set(session.scalars(select(TaskInstance.task_id).where(*mine))))
    return [f"Failed in {', '.join(failed)}. The end of its log says what broke and what to do."] if failed else []
