"""``sources``, ``collect``, ``examples`` and ``history``: where training data comes from."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opstune import settings as configuration
from opstune.cli.output import AsJson, show, table

if TYPE_CHECKING:
    from opstune.collect import SourceCheck
    from opstune.store import ExampleStore

sources = typer.Typer(help="Where history comes from.", no_args_is_help=True)
examples = typer.Typer(help="What the example store holds.", no_args_is_help=True)
history = typer.Typer(help="The generated history of the demo.", no_args_is_help=True)


@sources.command("list")
def list_sources(as_json: AsJson = False) -> None:
    """Name every source in config/sources."""
    from opstune.collect import source_names

    names = source_names()
    show(names, as_json, names)


@sources.command("check")
def check_sources(as_json: AsJson = False) -> None:
    """Say of each source: reachable, authorised, how much is new. Exit code 1 when a connected one fails."""
    from opstune.collect import check, source_names

    settings = configuration.load()
    found = [
        check(name, settings.examples_dir, settings.collect, settings.connection, home=settings.home)
        for name in source_names()
    ]
    told = [f"{one.source}: {one.off or one.problem}" for one in found if one.off or one.problem]
    show([one.model_dump(mode="json") for one in found], as_json, [table([_row(one) for one in found]), *told])
    raise typer.Exit(any(one.problem for one in found))


def _row(found: SourceCheck) -> dict[str, Any]:
    """One line of the table. What could not be asked is a dash, and the reason stands below."""
    asked = not (found.off or found.problem)
    return {
        "source": found.source,
        "kind": found.kind,
        "reachable": "off" if found.off else found.reachable,
        "authorised": found.authorised,
        "new": found.new if asked else None,
        "changed": found.updated if asked else None,
        "refused": found.refused if asked else None,
        "last read": f"{found.last_read:%Y-%m-%d %H:%M}" if found.last_read else "never",
    }


def collect(
    source: Annotated[str | None, typer.Argument(help="One source; all when left out.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Read from here instead of the watermark (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring new history into the example store."""
    from opstune import pipeline
    from opstune.collect import source_names

    settings = configuration.load()
    since = since.replace(tzinfo=UTC) if since else None
    rows = [
        pipeline.collect_source(name, settings, since).model_dump() for name in ([source] if source else source_names())
    ]
    show(rows, as_json, table(rows))


@examples.command("stats")
def example_stats(as_json: AsJson = False) -> None:
    """Count the store's examples by source, skill and outcome."""
    counted = _store().table(["source", "skill", "outcome"]).to_pylist()
    found = Counter((row["source"], row["skill"], row["outcome"]) for row in counted)
    rows = [{"source": s, "skill": k, "outcome": o, "examples": n} for (s, k, o), n in sorted(found.items())]
    show(rows, as_json, table(rows))


@examples.command("export")
def export_examples(
    out: Annotated[Path, typer.Argument(help="A Parquet file to write.")], as_json: AsJson = False
) -> None:
    """Write the store's examples, the latest of each, to one Parquet file."""
    from opstune.tables import write_examples

    count = write_examples(out, _store().read())
    show({"file": str(out), "examples": count}, as_json, f"{count} examples written to {out}")


@history.command("write")
def write_history(
    weeks_after: Annotated[int, typer.Option(help="Weeks beyond the first period to add.")] = 0, as_json: AsJson = False
) -> None:
    """Write the made-up platform team's history; later weeks leave earlier ones as they are."""
    from opstune.simulate import write_history

    settings = configuration.load()
    out = settings.home / "history"
    write_history(out, settings.simulate, weeks_after=weeks_after)
    show({"folder": str(out)}, as_json, f"history written to {out}")


def _store() -> ExampleStore:
    from opstune.security.keys import Keyring
    from opstune.store import ExampleStore

    settings = configuration.load()
    return ExampleStore(settings.examples_dir, Keyring.connected(settings.keys_dir, settings.connection))
