"""``models`` and ``ask``: what is registered, what answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opstune import settings as configuration
from opstune.artifacts import open_ref
from opstune.cli.output import AsJson, show, table
from opstune.errors import InputError
from opstune.registry import Registry, Version
from opstune.tracking import flat, lineage

models = typer.Typer(help="Registered versions and who stands where.", no_args_is_help=True)
Who = Annotated[str, typer.Option(help="Who moves it; kept in the ledger.", envvar="USER")]
Why = Annotated[str, typer.Option(help="Why; kept in the ledger.")]


def registry() -> Registry:
    settings = configuration.load()
    return Registry(settings.tracking_uri, settings.registry, settings.home)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Every version with its aliases."""
    rows = [_row(version) for version in registry().list()]
    show(rows, as_json, table(rows))


@models.command("show")
def show_model(version: str, as_json: AsJson = False) -> None:
    """One version: lineage, aliases, files."""
    found = registry().show(version)
    told = {**found.model_dump(mode="json"), "lineage": lineage(open_ref(found.adapter))}
    show(told, as_json, table([{"key": key, "value": value} for key, value in flat(told).items()]))


@models.command("verify")
def verify_model(version: str, as_json: AsJson = False) -> None:
    """Check a version's signature and every file; a changed byte is named."""
    registry().verify(version)
    show({"version": version, "verified": True}, as_json, f"{version}: signature and every file are as registered")


@models.command("promote")
def promote(version: str, why: Why, who: Who = "unknown", as_json: AsJson = False) -> None:
    """Make a version the champion, on the strength of its own verdict."""
    moved = registry().promote(version, who=who, why=why)
    show(_row(moved), as_json, f"{moved.version} is champion")


@models.command("rollback")
def rollback(why: Why, who: Who = "unknown", as_json: AsJson = False) -> None:
    """Make the previous champion champion again."""
    moved = registry().rollback(who=who, why=why)
    show(_row(moved), as_json, f"{moved.version} is champion again")


def ask(
    question: Annotated[str, typer.Argument(help="An alert, an incident or a log: plain text or a JSON context.")],
    skill: Annotated[str, typer.Option(help="remediation, triage or log_error.")] = "remediation",
    as_json: AsJson = False,
) -> None:
    """Ask the champion. The embedded tiny base proves the chain, not intelligence: a person decides."""
    from opstune.serve import ask as answer
    from opstune.serve import context_from_text

    champion = registry().champion()
    if champion is None:
        raise InputError("there is no champion to ask", "registry", "Run a retrain first: opstune retrain.")
    said = answer(champion.folder, skill, context_from_text(skill, question), configuration.load().serve)
    value = {
        "version": champion.version,
        "skill": skill,
        "answer": said.parsed,
        "text": said.text,
        "seconds": said.seconds,
    }
    show(value, as_json, [f"[bold]opstune {champion.version}[/]", said.text])


def _row(version: Version) -> dict[str, Any]:
    aliases = ", ".join(version.aliases)
    return {"version": version.version, "aliases": aliases, "mode": version.mode, "parent": version.parent}
