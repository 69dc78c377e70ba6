"""What `make bench` measures: ``python -m opstune.bench [ROW ...]`` prints a table and writes ``bench.json``.

A row is a ratio against a baseline of the same run where there is one, because these figures come from
shared machines: an absolute time says as much about the neighbours as about the code.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import typer

from opstune import settings as configuration
from opstune.artifacts import git_revision, open_ref, write_text
from opstune.cli.output import console, table

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Measured:
    """One figure: ``ratio`` is value over baseline, ``n`` how many things were measured."""

    value: float
    unit: str
    baseline: float | None
    n: int

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None


ROWS: dict[str, Callable[[], Measured]] = {}


def row(name: str) -> Callable[[Callable[[], Measured]], Callable[[], Measured]]:
    """Register a row under its fixed name."""

    def register(measure: Callable[[], Measured]) -> Callable[[], Measured]:
        ROWS[name] = measure
        return measure

    return register


@row("dag_import_seconds")
def dag_import_seconds() -> Measured:
    """Seconds to import the slowest DAG file beyond Airflow itself; the baseline is Airflow itself."""
    program = (
        "import sys, time, runpy; import airflow.sdk; t = time.perf_counter();"
        "runpy.run_path(sys.argv[1]); print(time.perf_counter() - t)"
    )
    airflow = "import time; t = time.perf_counter(); import airflow.sdk; print(time.perf_counter() - t)"
    baseline = statistics.median(_python(airflow) for _ in range(3))
    dags = sorted((ROOT / "dags").glob("*.py"))
    slowest = max(statistics.median(_python(program, str(dag)) for _ in range(3)) for dag in dags)
    return Measured(slowest, "s", baseline, len(dags))


@row("dataset_build_10k")
def dataset_build_10k() -> Measured:
    """Examples per second through validate, scrub, deduplicate, split and write; no baseline."""
    from opstune import dataset
    from opstune.collect import snapshot
    from opstune.simulate import simulate_examples
    from opstune.store import ExampleStore

    settings = configuration.load()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        examples = simulate_examples(settings.simulate, 10_000)
        ExampleStore(home / "examples").upsert(examples)
        frozen = snapshot(home / "collect", home / "examples", [])
        started = time.perf_counter()
        dataset.build(home / "dataset", frozen, home / "splits.parquet", settings.dataset, "full")
        return Measured(len(examples) / (time.perf_counter() - started), "examples/s", None, len(examples))
