"""Every night, what is new in every source goes into the example store."""

from __future__ import annotations

from airflow.sdk import DAG, TaskGroup

from opstune_airflow import assets, catalog, form, settings, tasks
from opstune_airflow.defaults import ARGS, at, stage

INTRO = """
Brings what is new since the last time from every source into the example store: one mapped task a source,
so one that is down does not hold up the others. A source without its connection is off and says so. Running
it twice adds nothing; a retrain collects once more before it starts.
"""

with (
    DAG(
        dag_id="collect",
        schedule=at("0 2 * * *"),
        catchup=False,
        max_active_runs=1,
        params=form.days_back(),
        default_args=ARGS,
        tags=["opstune", "collect", "scheduled"],
        doc_md=catalog.doc_md(INTRO, ("collect",)),
    ) as dag,
    TaskGroup("collect"),
):
    source = stage(tasks.collect_source, task_id="source", map_index_template="{{ label }}")
    reports = source.expand(source=settings.source_names())
    # As a teardown it runs whatever a source did, and leaves the run's colour to the sources.
    stage(tasks.tell_examples, task_id="report", outlets=[assets.EXAMPLES])(reports).as_teardown()
