"""The command behind `make bench`."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict

import psutil
import typer

from opstune import settings as configuration
from opstune.artifacts import git_revision, write_text
from opstune.bench import chain, datasets, evaluating, exporting, gating, incremental, registry, training
from opstune.bench.rows import ON_REQUEST, ROWS, Measured
from opstune.cli.output import console, table
from opstune.errors import ConfigError, DataError, ServiceDown

#: Importing a module of rows registers them.
MODULES = (chain, datasets, evaluating, exporting, gating, incremental, registry, training)


def main(
    names: list[str] = typer.Argument(None, help="Rows to measure; all that take minutes at most when left out."),  # noqa: B008
) -> None:
    """Measure, print the table, and write ``bench.json`` under OPSTUNE_HOME."""
    if unknown := set(names or []) - set(ROWS):
        raise ConfigError(f"no such row: {', '.join(sorted(unknown))}", "bench", f"Rows: {', '.join(ROWS)}.")
    out = configuration.load().home / "bench.json"
    kept = {entry["name"]: entry for entry in json.loads(out.read_text())} if out.is_file() else {}
    for name in names or [name for name in ROWS if name not in ON_REQUEST]:
        started = time.perf_counter()
        try:
            measured = ROWS[name]()
        except (DataError, ServiceDown) as error:
            console.print(f"{name}: {error}")
            continue
        seconds = round(time.perf_counter() - started, 2)
        proof = {"seconds": seconds, "machine": _machine(), "revision": git_revision()}
        kept[name] = {"name": name, **asdict(measured), "ratio": measured.ratio, **proof}
        console.print(f"{name}: {measured.value:,.4g} {measured.unit}" + _against(measured))
        write_text(out, json.dumps(list(kept.values()), indent=1))
    shown = ("name", "value", "unit", "baseline", "ratio", "n", "seconds")
    console.print(table([{key: entry[key] for key in shown} for entry in kept.values()], title=str(out)))


def _against(measured: Measured) -> str:
    return f", {measured.ratio:.2f} times {measured.baseline:,.4g}" if measured.ratio and measured.baseline else ""


def _machine() -> str:
    """What was measured on, and how busy it was."""
    memory = psutil.virtual_memory().total >> 30
    return f"{platform.machine()}, {psutil.cpu_count()} cores, {memory} GiB, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    typer.run(main)
