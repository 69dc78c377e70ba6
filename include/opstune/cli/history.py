"""``sources``, ``collect``, ``examples`` and ``history``: where training data comes from."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from opstune import settings as configuration
from opstune.cli.output import AsJson, show, table

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
    """Say of each source: connected, readable, how much is new."""
    from opstune.collect import check, source_names

    settings = configuration.load()
    rows = [
        check(name, settings.examples_dir, settings.collect, settings.connection, home=settings.home).model_dump()
        for name in source_names()
    ]
    show(rows, as_json, table(rows))


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
    from opstune.store import ExampleStore

    found = Counter((e.source, e.skill, e.outcome) for e in ExampleStore(configuration.load().examples_dir).read())
    rows = [{"source": s, "skill": k, "outcome": o, "examples": n} for (s, k, o), n in sorted(found.items())]
    show(rows, as_json, table(rows))


@examples.command("export")
def export_examples(
    out: Annotated[Path, typer.Argument(help="A Parquet file to write.")], as_json: AsJson = False
) -> None:
    """Write the store's examples, the latest of each, to one Parquet file."""
    from opstune.store import ExampleStore
    from opstune.tables import write_examples

    count = write_examples(out, ExampleStore(configuration.load().examples_dir).read())
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
