"""``dataset``, ``train``, ``evaluate``, ``gate``, ``convert`` and ``retrain``: the stages, one by one or all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from opstune import settings as configuration
from opstune.artifacts import Ref, open_ref, verify
from opstune.cli.output import AsJson, show, table
from opstune.errors import DiskFull, InputError, TrainingError
from opstune.settings import Mode

dataset = typer.Typer(help="What the model is trained and tested on.", no_args_is_help=True)
RunId = Annotated[str | None, typer.Option("--run", help="Run id; files stand under runs/<run id>.")]
Folder = Annotated[Path, typer.Option("--dataset", help="A dataset's folder.", exists=True, file_okay=False)]
EXIT = {"promote": 0, "reject": 1, "insufficient_data": 2}


@dataset.command("build")
def build_dataset(mode: Mode = "full", run: RunId = None, as_json: AsJson = False) -> None:
    """Build a dataset from everything in the example store."""
    from opstune import pipeline

    job = _run(run, mode)
    _show_ref(pipeline.dataset(job, pipeline.snapshot(job, [])), as_json)


@dataset.command("show")
def show_dataset(folder: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """Verify a dataset and print its counts."""
    _show_ref(verify(open_ref(folder)), as_json)


@dataset.command("export")
def export_dataset(
    folder: Annotated[Path, typer.Argument()],
    out: Annotated[Path, typer.Argument()],
    format_: Annotated[
        Literal["messages", "alpaca", "sharegpt", "huggingface", "csv"], typer.Option("--format")
    ] = "messages",
    as_json: AsJson = False,
) -> None:
    """Write a dataset in the form that another trainer reads."""
    from opstune.dataset import export

    written = export(open_ref(folder), out, format_)
    value = {"folder": str(out), "format": format_, "files": [str(path.relative_to(out)) for path in written]}
    show(value, as_json, f"{format_}: {len(written)} files written to {out}")


def train(
    folder: Folder,
    profile: str = "tiny",
    mode: Mode = "full",
    run: RunId = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    max_steps: int | None = None,
    check: Annotated[bool, typer.Option("--check", help="Only look whether it could start; takes seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train an adapter on a dataset."""
    from opstune import pipeline
    from opstune.cli.progress import followed

    asked = {"profile": profile, "epochs": epochs, "learning_rate": learning_rate, "max_steps": max_steps}
    if check:
        found = pipeline.check_training(_run(run, mode, asked), open_ref(folder))
        show({"ready": True, "found": found}, as_json, "This training can start here.")
        return
    job = _run(run, mode, asked)
    try:
        with followed() as tell:
            adapter = pipeline.run_training(job, open_ref(folder), on_progress=tell)
    except (TrainingError, DiskFull):
        typer.echo(
            f"What was saved belongs to run {job.id}: to go on, give the same command with --run {job.id}.", err=True
        )
        raise
    _show_ref(adapter, as_json)


def evaluate(
    model: Annotated[Path, typer.Argument(help="A trained adapter's folder.")],
    folder: Folder,
    run: RunId = None,
    as_json: AsJson = False,
) -> None:
    """Measure base, champion and this adapter on a dataset's test set."""
    from opstune import pipeline

    _show_ref(pipeline.evaluate(_run(run, "full"), open_ref(folder), open_ref(model)), as_json)


def gate(
    report: Annotated[Path, typer.Argument(help="An evaluation's folder.")],
    folder: Annotated[
        Path | None, typer.Option("--dataset", help="Its dataset's folder; left out: where it was measured.")
    ] = None,
    run: RunId = None,
    as_json: AsJson = False,
) -> None:
    """Hold an evaluation against the gates. Exit code: 0 promote, 1 reject, 2 cannot say; any other is a fault."""
    from opstune import pipeline

    evaluation = open_ref(report)
    data = open_ref(folder) if folder else _dataset_of(evaluation)
    verdict = pipeline.read_verdict(pipeline.gate(_run(run, "full"), data, evaluation))
    show_verdict(verdict, as_json)
    raise typer.Exit(EXIT[verdict.verdict])


def convert(
    run: Annotated[str, typer.Argument(help="Run id whose adapter becomes a GGUF.")], as_json: AsJson = False
) -> None:
    """Merge a run's adapter and write its quantised GGUF and Modelfile."""
    from opstune import pipeline

    job = _run(run, "full")
    _show_ref(pipeline.convert(job, open_ref(job.folder / "train")), as_json)


def retrain(mode: Mode = "full", run: RunId = None, as_json: AsJson = False) -> None:
    """The whole cycle without Airflow. Exit code: 0 promote, 1 reject, 2 cannot say."""
    from opstune import pipeline

    outcome = pipeline.retrain(_run(run, mode, alone=False))
    show_verdict(outcome.verdict, as_json, version=outcome.version)
    raise typer.Exit(EXIT[outcome.verdict.verdict])


def show_verdict(verdict: Any, as_json: bool, version: str | None = None) -> None:
    """The verdict in words, then its lines as a table."""
    from opstune.evaluate import gate_table

    value = {**json.loads(verdict.model_dump_json()), "version": version}
    words = [verdict.sentence, table(gate_table(verdict)), *([f"registered as {version}"] if version else [])]
    show(value, as_json, words)


def _run(run: str | None, mode: Mode, train: dict[str, Any] | None = None, alone: bool = True) -> Any:
    from opstune.pipeline import Run

    asked = {key: value for key, value in (train or {}).items() if value is not None}
    settings = configuration.load({"train": asked} if asked else None)
    return Run(run or f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}", mode, settings, alone)


def _dataset_of(evaluation: Ref) -> Ref:
    """The dataset that an evaluation says it was measured on."""
    made_from = evaluation.manifest["inputs"].get("dataset")
    if not made_from:
        raise InputError(f"the {evaluation.kind} names no dataset", str(evaluation.path), "Give --dataset.")
    return Ref.model_validate(made_from)


def _show_ref(ref: Ref, as_json: bool) -> None:
    counts = ", ".join(f"{name} {value:g}" for name, value in ref.counts.items())
    show(ref.model_dump(), as_json, [f"{ref.kind}: {ref.path}", counts, f"sha256 {ref.sha256}"])
