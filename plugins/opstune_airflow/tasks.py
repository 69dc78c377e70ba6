"""One thin function a stage: context and dicts in, one call of the library, a dict out.

The library is imported inside, when a task runs: DAG files import this module to be parsed.
Refs travel through XCom as dicts; data never does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import DagRunState, get_current_context
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException

from opstune_airflow import assets, run_note, settings, turn, verdict

if TYPE_CHECKING:
    from opstune.artifacts import Ref
    from opstune.pipeline import Run

log = logging.getLogger(__name__)

JSON = dict[str, Any]


def open_run(plan: JSON, *connections: str) -> Run:
    """The library's Run for the DAG run that this task belongs to, with these connections beside the usual ones.

    Raises:
        ServiceDown: the task was cleared while another retrain runs.
    """
    from opstune.errors import ServiceDown
    from opstune.pipeline import Run

    context = get_current_context()
    found = settings.load(context["params"], [settings.MLFLOW, *settings.STORE_KEYS, *connections])
    if busy := turn.take(found.home, context["dag_run"].dag_id, context["dag_run"].run_id, state_of):
        raise ServiceDown(
            f"another retrain has its turn: {busy}", plan["id"], "Clear this task again when it has ended."
        )
    return Run(plan["id"], plan["mode"], found)


def state_of(dag_id: str, run_id: str) -> str:
    """The state of any DAG run, ``""`` for one that was deleted; asked through the running task."""
    try:
        return DagRunState(get_current_context()["ti"].get_dagrun_state(dag_id, run_id)).value
    except AirflowRuntimeError:
        return ""


def collect_source(source: str) -> JSON:
    """Bring what is new in one source into the example store."""
    from datetime import UTC, datetime, timedelta

    from opstune import pipeline

    context = get_current_context()
    context.update({"label": f"{source}: failed"})  # type: ignore[misc]  # a key of our own, for the label
    days_back = context["params"].get("days_back")
    since = datetime.now(UTC) - timedelta(days=days_back) if days_back else None
    connections = [*settings.source_connections(source), *settings.STORE_KEYS]
    report = pipeline.collect_source(source, settings.load(context["params"], connections), since)
    label = f"{source}: off" if report.off else f"{source}: {report.new} new"
    context.update({"label": label})  # type: ignore[misc]
    log.info(
        "%s: %s", source, report.off or f"{report.new} new, {report.updated} updated, {report.quarantined} quarantined"
    )
    return report.model_dump(mode="json")


def tell_examples(reports: list[JSON]) -> None:
    """The end of a daily collection: the asset event that says what came in."""
    counts = {key: sum(report[key] for report in reports) for key in ("new", "updated", "quarantined")}
    off = [report["source"] for report in reports if report["off"]]
    assets.describe(assets.EXAMPLES, **counts, off=off)
    log.info("%s; sources that are off: %s", counts, ", ".join(off) or "none")


def snapshot(plan: JSON, reports: list[JSON]) -> JSON:
    """Freeze what this retrain sees."""
    from opstune import pipeline
    from opstune.collect import SourceReport

    ref = pipeline.snapshot(open_run(plan), [SourceReport.model_validate(report) for report in reports])
    return _made(assets.EXAMPLES, ref)


def dataset(plan: JSON, examples: JSON) -> JSON:
    """Clean and split; the test set stays what it was."""
    from opstune import pipeline

    return _made(assets.DATASET, pipeline.dataset(open_run(plan), _ref(examples)))


def gate(plan: JSON, dataset: JSON, evaluation: JSON, red_team: JSON) -> JSON | None:
    """The verdict; without promotion nothing is returned and the later stages are skipped."""
    from opstune import pipeline

    ref = pipeline.gate(open_run(plan), _ref(dataset), _ref(evaluation), _ref(red_team))
    promoted = verdict.show(ref, pipeline.read_verdict(ref), "the challenger")
    return ref.model_dump() if promoted else None


def convert(plan: JSON, adapter: JSON) -> JSON:
    """Merge and quantise into the GGUF that ships."""
    from opstune import pipeline

    ref = pipeline.convert(open_run(plan), _ref(adapter))
    log.info("%s", ref.path / "model.gguf")
    return ref.model_dump()


def measure_shipped(plan: JSON, dataset: JSON, gguf: JSON, evaluation: JSON, red_team: JSON) -> JSON | None:
    """The same test, attacks and gate on the GGUF: what ships must agree with what was tested."""
    from opstune import pipeline

    run = open_run(plan, settings.ENDPOINT)
    shipped = pipeline.evaluate_shipped(run, _ref(dataset), _ref(gguf))
    attacked = pipeline.red_team_shipped(run, _ref(dataset), _ref(gguf))
    ref = pipeline.gate_shipped(run, _ref(dataset), shipped, attacked, _ref(evaluation), _ref(red_team))
    if not verdict.show(ref, pipeline.read_verdict(ref), "the GGUF that ships"):
        return None
    return {"shipped_evaluation": shipped.model_dump(), "shipped_verdict": ref.model_dump()}


def register(plan: JSON, refs: JSON, shipped: JSON) -> str:
    """Bundle, sign, and give it a version."""
    from opstune import pipeline

    run = open_run(plan)
    version = pipeline.register(run, {name: _ref(ref) for name, ref in {**refs, **shipped}.items()})
    assets.describe(assets.MODEL, version=version, run=run.id, mode=run.mode)
    log.info("registered as %s", version)
    return version


def deploy(plan: JSON, version: str) -> None:
    """Make the version the champion, unless the form said not to."""
    context = get_current_context()
    if not context["params"]["deploy"]:
        reason = (
            f"{version} is registered and waits: the form said not to deploy. `opstune models promote {version}` does."
        )
        context["ti"].xcom_push(key=run_note.KEY, value=reason)
        raise AirflowSkipException(reason)
    from opstune import pipeline

    pipeline.deploy(open_run(plan, *settings.PLACES), version)
    assets.describe(assets.CHAMPION, version=version)
    context["ti"].xcom_push(key=run_note.KEY, value=f"{version} is the champion now.")
    log.info("%s is the champion now", version)


def pull_annotation(project: str) -> JSON:
    """Bring what people have decided in one project of Label Studio into the example store."""
    from opstune import pipeline

    context = get_current_context()
    report = pipeline.pull_annotation(project, settings.load({}, settings.ANNOTATION))
    _skip_when_off(report.off)
    label = f"{project}: waits" if report.waits else f"{project}: {report.answered} answered"
    context.update({"label": label})  # type: ignore[misc]  # a key of our own, for the label
    if report.waits:
        context["ti"].xcom_push(key=run_note.KEY, value=f"{project} waits: {report.waits}.")
    return report.model_dump(mode="json")


def push_annotation(project: str) -> JSON:
    """Ask people in Label Studio about the examples of one project that need them."""
    from opstune import pipeline

    context = get_current_context()
    report = pipeline.push_annotation(project, settings.load({}, settings.ANNOTATION))
    _skip_when_off(report.off)
    context.update({"label": f"{project}: {report.new} new"})  # type: ignore[misc]
    if report.note:
        context["ti"].xcom_push(key=run_note.KEY, value=report.note)
    return report.model_dump(mode="json")


def _skip_when_off(reason: str) -> None:
    if reason:
        raise AirflowSkipException(reason)


def _ref(dumped: JSON) -> Ref:
    from opstune.artifacts import Ref

    return Ref.model_validate(dumped)


def _made(asset: Any, ref: Ref) -> JSON:
    assets.describe(asset, sha256=ref.sha256, **ref.counts)
    log.info("%s  %s", ref.path, "  ".join(f"{name} {value:g}" for name, value in ref.counts.items()))
    return ref.model_dump()
