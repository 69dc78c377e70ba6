"""``annotate``: out to people in Label Studio, back from them, and how far they agree."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opstune import settings as configuration
from opstune.cli.output import AsJson, show, table

annotate = typer.Typer(help="What people are asked in Label Studio, and what they say.", no_args_is_help=True)
Project = Annotated[str | None, typer.Argument(help="One project; all when left out.")]


@annotate.command("push")
def push(project: Project = None, as_json: AsJson = False) -> None:
    """Ask people about the examples that need them."""
    from opstune import pipeline
    from opstune.annotate import push_told

    settings = configuration.load()
    reports = [pipeline.push_annotation(name, settings) for name in _names(project)]
    _show(reports, as_json, [f"{report.project}: {push_told(report)}" for report in reports])


@annotate.command("pull")
def pull(project: Project = None, as_json: AsJson = False) -> None:
    """Bring what people have decided into the example store."""
    from opstune import pipeline
    from opstune.annotate import pull_told

    settings = configuration.load()
    reports = [pipeline.pull_annotation(name, settings) for name in _names(project)]
    _show(reports, as_json, [f"{report.project}: {pull_told(report)}" for report in reports])


@annotate.command("agreement")
def agreement(as_json: AsJson = False) -> None:
    """Say how far people agree in each project, as the last pull found it, and on what they differ."""
    from opstune.annotate import read_agreement

    found = read_agreement(configuration.load().annotations_dir)
    if not found:
        show(found, as_json, "nothing has been pulled from Label Studio yet: opstune annotate pull")
        return
    differ = [
        f"{project}: {one['item']}: {', '.join(f'{who} says {said}' for who, said in one['labels'].items())}"
        for project, entry in found.items()
        for one in entry["differ"]
    ]
    show(found, as_json, [table([_row(project, entry) for project, entry in found.items()]), *differ])


def _row(project: str, entry: dict[str, Any]) -> dict[str, Any]:
    kappa, batch = entry["kappa"], entry["batch"]
    return {
        "project": project,
        "labelled": entry["labelled"],
        "by several": entry["items"],
        "people": len(entry["annotators"]),
        "agreement": entry["value"],
        "measured as": entry["measure"],
        "line": entry["line"],
        "beyond chance": kappa["value"],
        "by": kappa["measure"] or None,
        "last batch": "waits" if batch["waits"] else "taken",
    }


def _names(project: str | None) -> list[str]:
    from opstune.annotate import project_names, skill_of

    if project:
        skill_of(project)  # a misspelt name is told even where there is no Label Studio
    return [project] if project else project_names()


def _show(reports: list[Any], as_json: bool, lines: list[str]) -> None:
    show([report.model_dump(mode="json") for report in reports], as_json, lines)
