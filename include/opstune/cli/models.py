"""``models`` and ``ask``: what is registered, what answers."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from opstune import settings as configuration
from opstune.artifacts import open_ref
from opstune.cli.output import AsJson, show, table
from opstune.errors import InputError
from opstune.registry import Registry, Version, compare, decision, sizes
from opstune.registry.comparing import Change
from opstune.registry.ledger import Entry
from opstune.tracking import lineage

models = typer.Typer(help="Registered versions and who stands where.", no_args_is_help=True)
Who = Annotated[str, typer.Option(help="Who moves it; kept in the ledger.")]
Why = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
#: Of a sha256 a table shows as much as tells two apart.
_SHORT = 12


def _me() -> str:
    """Whom the system takes this process for; a container's user may have no name."""
    try:
        return getpass.getuser()
    except OSError:
        return f"uid {os.getuid()}"


ME = _me()


def registry() -> Registry:
    settings = configuration.load()
    return Registry(settings.tracking_uri, settings.registry, settings.home)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Every version with its aliases. Signatures are checked by show, verify, promote and whatever loads a model."""
    rows = [_row(version) for version in registry().list()]
    shown = [{**row, "gguf": _megabytes(row["gguf"]), "registered": row["registered"][:10]} for row in rows]
    show(rows, as_json, table(shown) if shown else "No version is registered yet: opstune retrain.")


@models.command("show")
def show_model(version: str, as_json: AsJson = False) -> None:
    """One version, its signature checked: where it comes from, what it holds, who moved it when and why."""
    known = registry()
    found = known.show(version)
    moves = [entry for entry in known.ledger() if _concerns(entry, version)]
    parts = sizes(found)
    told = {
        **found.model_dump(mode="json"),
        "lineage": lineage(open_ref(found.adapter)),
        "verdict": decision(found),
        "bytes": parts,
        "history": [entry.model_dump(mode="json", exclude={"signed"}) for entry in moves],
    }
    facts = {
        "version": found.version,
        "aliases": ", ".join(found.aliases),
        "registered": f"{found.registered_at:%Y-%m-%d %H:%M} UTC",
        "verdict": decision(found),
        "mode": found.mode,
        "parent": found.parent,
        "base": f"{found.base.name} {found.base.sha256[:_SHORT]}",
        "run": found.run_id,
        "revision": found.git_revision,
        "GGUF": _megabytes(parts["model.gguf"]),
        "report": found.report,
        "folder": found.folder,
    }
    stages = [
        {"stage": name, "kind": stage.kind, "sha256": stage.sha256[:_SHORT], "size": _megabytes(parts.get(name))}
        for name, stage in found.stages.items()
    ]
    rows = [f"[bold]{name:<10}[/] {'-' if value is None else value}" for name, value in facts.items()]
    show(told, as_json, [*rows, table(stages), *map(_moved, moves)])


@models.command("verify")
def verify_model(version: str, as_json: AsJson = False) -> None:
    """Check signature, every file, the ledger, and what MLflow shows of it; what was changed is named."""
    registry().verify(version)
    words = f"{version}: signature, files and ledger are as registered, and MLflow shows the same"
    show({"version": version, "verified": True}, as_json, words)


@models.command("diff")
def diff(left: str, right: str, as_json: AsJson = False) -> None:
    """What differs between two versions: lineage, settings, metrics, sizes, verdicts."""
    known = registry()
    found = compare(known.show(left), known.show(right))
    sections = {name: getattr(found, name) for name in ("lineage", "settings", "metrics", "sizes", "verdicts")}
    words = [
        _whole(table(_side_by_side(changes, left, right, name), title=name)) if changes else f"{name}: the same"
        for name, changes in sections.items()
    ]
    show(found.model_dump(mode="json"), as_json, words)


@models.command("promote")
def promote(version: str, why: Why, who: Who = ME, as_json: AsJson = False) -> None:
    """Make a version the champion, on the strength of its own signed verdict."""
    moved = registry().promote(version, who=who, why=why)
    show(_row(moved), as_json, f"{moved.version} is champion")


@models.command("rollback")
def rollback(why: Why, who: Who = ME, as_json: AsJson = False) -> None:
    """Make the previous champion champion again, also where a server answers. The ledger keeps who and why."""
    from opstune import pipeline

    moved = pipeline.roll_back(configuration.load(), who=who, why=why)
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
    return {
        "version": version.version,
        "aliases": ", ".join(version.aliases),
        "mode": version.mode,
        "parent": version.parent,
        "verdict": decision(version),
        "gguf": version.gguf.stat().st_size,
        "registered": version.registered_at.isoformat(),
    }


def _concerns(entry: Entry, version: str) -> bool:
    return version == entry.version or any(version in move for move in entry.moves.values())


def _moved(entry: Entry) -> str:
    moves = ", ".join(f"{alias} {old or 'none'} → {new or 'none'}" for alias, (old, new) in entry.moves.items())
    return escape(f"{entry.at:%Y-%m-%d %H:%M}  {entry.action} by {entry.who}: {entry.why}\n                  {moves}")


def _side_by_side(changes: Sequence[Change], left: str, right: str, section: str) -> list[dict[str, str]]:
    return [
        {
            "name": change.name,
            left: _told(change.left, section),
            right: _told(change.right, section),
            "change": _step(change, section),
        }
        for change in changes
    ]


def _whole(shown: Table) -> Table:
    """Long names go on in the next line instead of ending in dots."""
    for column in shown.columns:
        column.overflow = "fold"
    return shown


def _told(value: str | float | None, section: str) -> str:
    if value is None:
        return "-"
    if section == "sizes":
        return _megabytes(float(value))
    if isinstance(value, str):
        return value[:_SHORT] if len(value) == 64 and " " not in value else value
    return f"{value:,.4g}"


def _step(change: Change, section: str) -> str:
    if isinstance(change.left, str) or isinstance(change.right, str) or None in (change.left, change.right):
        return ""
    step = float(change.right or 0) - float(change.left or 0)
    return f"{step / 1e6:+.2f} MB" if section == "sizes" else f"{step:+,.4g}"


def _megabytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.2f} MB"
