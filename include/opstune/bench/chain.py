"""Rows about the chain as a whole: DAG files and the demo."""

from __future__ import annotations

import json
import statistics

from opstune import settings as configuration
from opstune.bench.rows import ROOT, Measured, python, row
from opstune.errors import DataError


@row("dag_import_seconds")
def dag_import_seconds() -> Measured:
    """Seconds to import the slowest DAG file beyond Airflow itself; the baseline is Airflow itself."""
    program = (
        "import sys, time, runpy; import airflow.sdk; t = time.perf_counter();"
        "runpy.run_path(sys.argv[1]); print(time.perf_counter() - t)"
    )
    airflow = "import time; t = time.perf_counter(); import airflow.sdk; print(time.perf_counter() - t)"
    baseline = statistics.median(float(python("-c", airflow)) for _ in range(3))
    dags = sorted((ROOT / "dags").glob("*.py"))
    slowest = max(statistics.median(float(python("-c", program, str(dag))) for _ in range(3)) for dag in dags)
    return Measured(slowest, "s", baseline, len(dags))


@row("demo_first_retrain_seconds")
def demo_first_retrain_seconds() -> Measured:
    """Seconds of the last demo's first retrain, from its trigger to Airflow's success; set-up apart."""
    return Measured(_demo()["first_retrain_seconds"], "s", None, 1)


@row("demo_weekly_vs_first_seconds")
def demo_weekly_vs_first_seconds() -> Measured:
    """Seconds of the last demo's weekly retrain; the baseline is its monthly one."""
    facts = _demo()
    return Measured(facts["second_retrain_seconds"], "s", facts["first_retrain_seconds"], 1)


def _demo() -> dict[str, float]:
    file = configuration.load().home / "demo_seconds.json"
    if not file.is_file():
        raise DataError("no demo has run here", str(file), "Run `make demo` first.")
    facts: dict[str, float] = json.loads(file.read_text())
    return facts
