"""The retrain, from collection to the champion: weekly on what is new, monthly on everything."""

from __future__ import annotations

from airflow.sdk import DAG, TaskGroup

from opstune_airflow import assets, catalog, form, settings, tasks
from opstune_airflow.annotation import AnnotationWait
from opstune_airflow.approval import Approval
from opstune_airflow.defaults import ANY_SUCCESS, ARGS, at, judge, stage
from opstune_airflow.hosted import TrainAnywhereOperator
from opstune_airflow.operators import EvaluateOperator, RedTeamOperator, TurnSensor

INTRO = """
Teaches the model what on-call did, measures it against the base and the champion on a test set that no
training ever saw, and makes it the champion only if the bounds in `gates.yaml` hold.

**The verdict is in the run's note.** A rejected model is a green run whose later tasks are skipped. One
retrain runs at a time; another waits in `turn`. One that is asked to wait for people does so in `collect.annotation`.
Any stage may be cleared: what is finished is not done twice.
"""


def retrain(dag_id: str, mode: str, cron: str) -> DAG:
    """One retrain DAG; the two differ in their default mode and their night."""
    with DAG(
        dag_id=dag_id,
        schedule=at(cron),
        catchup=False,
        max_active_runs=1,
        params=form.fields(mode),
        default_args=ARGS,
        tags=["opstune", "retrain", "model", "scheduled"],
        doc_md=catalog.doc_md(INTRO, tuple(catalog.WHEN_IT_FAILS)),
    ) as dag:
        turn = TurnSensor(task_id="turn")
        plan = turn.output
        with TaskGroup("collect"):
            source = stage(tasks.collect_source, task_id="source", map_index_template="{{ label }}")
            reports = source.expand(source=settings.source_names())
            people = AnnotationWait(task_id="annotation", reports=reports, trigger_rule=ANY_SUCCESS)
            freeze = stage(tasks.snapshot, task_id="snapshot", outlets=[assets.EXAMPLES])
            examples = freeze(plan, people.output)
            turn >> reports
        with TaskGroup("dataset"):
            dataset = stage(tasks.dataset, task_id="build", outlets=[assets.DATASET])(plan, examples)
        with TaskGroup("train"):
            train = TrainAnywhereOperator(
                task_id="adapter", plan=plan, refs={"dataset": dataset}, outlets=[assets.ADAPTER]
            )
            adapter = train.output
        with TaskGroup("evaluate"):
            measured = {"dataset": dataset, "adapter": adapter}
            evaluation = EvaluateOperator(task_id="measure", plan=plan, refs=measured).output
            attacked = RedTeamOperator(task_id="red_team", plan=plan, refs=measured).output
            evaluation >> attacked
        with TaskGroup("gate"):
            gate = judge(tasks.gate, task_id="verdict", outlets=[assets.VERDICT])
            verdict = gate(plan, dataset, evaluation, attacked)
        with TaskGroup("convert"):
            gguf = stage(tasks.convert, task_id="gguf")(plan, adapter)
            parity = judge(tasks.measure_shipped, task_id="measure", outlets=[assets.VERDICT])
            shipped = parity(plan, dataset, gguf, evaluation, attacked)
            verdict >> gguf
        with TaskGroup("register"):
            made = {"examples": examples, **measured, "evaluation": evaluation, "verdict": verdict, "gguf": gguf}
            agreed = Approval(task_id="approval", plan=plan, shipped=shipped)
            version = stage(tasks.register, task_id="version", outlets=[assets.MODEL])(plan, made, shipped)
            agreed >> version
        with TaskGroup("deploy"):
            stage(tasks.deploy, task_id="champion", outlets=[assets.CHAMPION])(plan, version)
    return dag


weekly = retrain("retrain_weekly", "incremental", "0 3 * * 1")
monthly = retrain("retrain_monthly", "full", "0 4 1 * *")
