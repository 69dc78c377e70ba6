"""Rows about the chain as a whole: DAG files, the demo, evaluation and its gate."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from opstune import pipeline
from opstune import settings as configuration
from opstune.bench.corpus import history
from opstune.bench.rows import ROOT, Measured, python, row
from opstune.cli.output import console
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


@row("evaluate_batched_vs_naive")
def evaluate_batched_vs_naive() -> Measured:
    """Answers per second of the batched engine; the baseline asks the same model one case at a time."""
    from opstune.engines.base import Case
    from opstune.engines.hugging_face import HuggingFaceEngine
    from opstune.store import read_snapshot
    from opstune.train import base_folder, load_profile

    with tempfile.TemporaryDirectory() as folder:
        few = history(Path(folder), days=3)
        examples = read_snapshot(few.examples, pipeline.keyring(few.settings))
    cases = [Case(example.skill, example.context) for example in examples][:128]
    asked = few.settings.evaluate
    base = base_folder(load_profile("tiny"))
    speeds, said = [], []
    for batch_size in (asked.batch_size, 1):
        engine = HuggingFaceEngine(
            base, None, batch_size=batch_size, max_new_tokens=asked.max_new_tokens, threads=asked.threads
        )
        engine.answer(cases[:2], constrained=True)
        started = time.perf_counter()
        said.append([answer.text for answer in engine.answer(cases, constrained=True)])
        speeds.append(len(cases) / (time.perf_counter() - started))
    same = sum(batched == alone for batched, alone in zip(*said, strict=True))
    console.print(f"evaluate_batched_vs_naive: {same} of {len(cases)} answers are the same text")
    return Measured(speeds[0], "answers/s", speeds[1], len(cases))


@row("gate_false_pass_88_at_90")
def gate_false_pass_88_at_90() -> Measured:
    """Share of 2,000 draws in which a model that is right in 88 % of cases passes "above 90 %" on 1,000."""
    from opstune.evaluate import simulate_gate

    return Measured(simulate_gate(0.88, 0.90, n=1000, draws=2000, seed=7), "share", None, 2000)


@row("gate_true_pass_97_at_95")
def gate_true_pass_97_at_95() -> Measured:
    """Share of 2,000 draws in which a model that is right in 97 % of cases passes "above 95 %" on 1,000."""
    from opstune.evaluate import simulate_gate

    return Measured(simulate_gate(0.97, 0.95, n=1000, draws=2000, seed=7), "share", None, 2000)


def _demo() -> dict[str, float]:
    file = configuration.load().home / "demo_seconds.json"
    if not file.is_file():
        raise DataError("no demo has run here", str(file), "Run `make demo` first.")
    facts: dict[str, float] = json.loads(file.read_text())
    return facts
