"""How commands speak: a table or sentences to a person, one JSON document to a program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def show(value: Any, as_json: bool, text: str | Table | Sequence[str | Table]) -> None:
    """Print ``value`` as JSON, or ``text`` for a person."""
    if as_json:
        typer.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False))
        return
    here = Console(highlight=False)  # as wide as the terminal is now, not when this module was first read
    for part in [text] if isinstance(text, str | Table) else text:
        here.print(part)


def table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Rows with the same keys as a table; the keys are the headings."""
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for column in rows[0] if rows else ["nothing"]:
        made.add_column(column.replace("_", " "))
    for row in rows:
        made.add_row(*(_cell(value) for value in row.values()))
    return made


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
