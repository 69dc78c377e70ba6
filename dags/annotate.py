"""Every hour, both ways: what people have decided comes in, what needs them goes out."""

from __future__ import annotations

from airflow.sdk import DAG, task_group

from opstune_airflow import catalog, settings, tasks
from opstune_airflow.defaults import ARGS, at, stage

INTRO = """
Label Studio, both ways, one mapped group a project: `pull` brings what people have decided into the example store,
then `push` asks them about what needs a human, with the champion's answer beside it. In this order, so that a record
that changed after it was annotated is not shown anew before its answer was taken.

Answers on which people agree less than `annotate.agreement` wait, and the log says whose labels differ on what.
Without the connection `opstune_label_studio` everything here is skipped.
"""

with DAG(
    dag_id="annotate",
    schedule=at("0 * * * *"),
    catchup=False,
    max_active_runs=1,
    default_args=ARGS,
    tags=["opstune", "annotate", "scheduled"],
    doc_md=catalog.doc_md(INTRO, ("annotate",)),
) as dag:

    @task_group(group_id="annotate")
    def both_ways(project: str) -> None:
        pull = stage(tasks.pull_annotation, task_id="pull", map_index_template="{{ label }}")
        push = stage(tasks.push_annotation, task_id="push", map_index_template="{{ label }}")
        pull(project) >> push(project)

    both_ways.expand(project=settings.annotation_projects())
