"""The same stages from a terminal. Every command takes ``--json``."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import typer
from typer import rich_utils

from opstune.cli import annotate, deploy, history, keys, models, stages
from opstune.errors import OpstuneError

#: What ends otherwise than a verdict does (0, 1, 2). USAGE and BUG are EX_USAGE and EX_SOFTWARE of sysexits.h.
FAULT, USAGE, BUG, STOPPED = 3, 64, 70, 130
_UsageError: Any = typer.BadParameter.__bases__[0]

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
    """Run a command; a fault is a sentence on standard error and exit code 3, never a traceback.

    Nothing that breaks ends with the code of a verdict: whoever acts on ``opstune gate`` must not take a typing
    error for "cannot say" (2, as Typer has it) or a bug for "reject" (1, as Python has it).
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("opstune").setLevel(logging.INFO)
    try:
        code = app(standalone_mode=False) or 0
    except OpstuneError as error:
        typer.echo(f"{error.code}: {error}", err=True)
        code = FAULT
    except _UsageError as error:
        rich_utils.rich_format_error(error)
        code = USAGE
    except (typer.Abort, SystemExit):  # Typer leaves with 1 where nobody reads its output any more
        code = STOPPED
    except Exception:
        traceback.print_exc()
        code = BUG
    sys.exit(code)
