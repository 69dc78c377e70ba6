"""The same stages from a terminal. Every command takes ``--json``."""

from __future__ import annotations

import logging
import sys

import typer

from opstune.cli import annotate, deploy, history, keys, models, stages
from opstune.errors import OpstuneError

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(history.sources, name="sources")
app.add_typer(history.examples, name="examples")
app.add_typer(history.history, name="history")
app.add_typer(keys.keys, name="keys")
app.add_typer(annotate.annotate, name="annotate")
app.add_typer(stages.dataset, name="dataset")
app.add_typer(models.models, name="models")
app.command()(history.collect)
app.command()(stages.train)
app.command()(stages.evaluate)
app.command()(stages.gate)
app.command()(stages.convert)
app.command()(stages.retrain)
app.command()(deploy.deploy)
app.command()(models.ask)


def main() -> None:
    """Run a command; a fault is a sentence on standard error and exit code 3, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("opstune").setLevel(logging.INFO)
    try:
        app()
    except OpstuneError as error:
        typer.echo(f"{error.code}: {error}", err=True)
        sys.exit(3)
