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
from opstune.artifacts import Ref, git_revision, write_text
from opstune.cli.output import console, table
from opstune.errors import ConfigError, DataError

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


@row("demo_first_retrain_seconds")
def demo_first_retrain_seconds() -> Measured:
    """Seconds of the last demo's first retrain, from its trigger to Airflow's success; set-up apart."""
    return Measured(_demo()["first_retrain_seconds"], "s", None, 1)


@row("incremental_vs_full_seconds")
def incremental_vs_full_seconds() -> Measured:
    """Seconds of the last demo's weekly retrain; the baseline is its monthly one."""
    facts = _demo()
    return Measured(facts["second_retrain_seconds"], "s", facts["first_retrain_seconds"], 1)


@row("dataset_build_10k")
def dataset_build_10k() -> Measured:
    """Examples per second through validate, scrub, deduplicate, split and write, on some 10,000 of them."""
    from opstune import dataset

    with tempfile.TemporaryDirectory() as folder:
        settings, examples = _history(Path(folder), days=90)
        started = time.perf_counter()
        dataset.build(Path(folder) / "dataset", examples, Path(folder) / "splits.parquet", settings.dataset, "full")
        n = int(examples.counts["rows"])
        return Measured(n / (time.perf_counter() - started), "examples/s", None, n)


@row("evaluate_batched_vs_naive")
def evaluate_batched_vs_naive() -> Measured:
    """Answers per second of the batched engine; the baseline asks the same model one case at a time."""
    from opstune.engines.base import Case
    from opstune.engines.hugging_face import HuggingFaceEngine
    from opstune.store import read_snapshot
    from opstune.train import base_folder, load_profile

    with tempfile.TemporaryDirectory() as folder:
        settings, examples = _history(Path(folder), days=3)
        cases = [Case(example.skill, example.context) for example in read_snapshot(examples)][:128]
    asked = settings.evaluate
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


def main(names: list[str] = typer.Argument(None, help="Rows to measure; all when left out.")) -> None:  # noqa: B008
    """Measure, print the table, and write ``bench.json`` under OPSTUNE_HOME."""
    if unknown := set(names or []) - set(ROWS):
        raise ConfigError(f"no such row: {', '.join(sorted(unknown))}", "bench", f"Rows: {', '.join(ROWS)}.")
    out = configuration.load().home / "bench.json"
    kept = {entry["name"]: entry for entry in json.loads(out.read_text())} if out.is_file() else {}
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB"
    for name in names or ROWS:
        started = time.perf_counter()
        try:
            measured = ROWS[name]()
        except DataError as error:
            console.print(f"{name}: {error}")
            continue
        seconds = round(time.perf_counter() - started, 2)
        proof = {"seconds": seconds, "machine": machine, "revision": git_revision()}
        kept[name] = {"name": name, **asdict(measured), "ratio": measured.ratio, **proof}
    write_text(out, json.dumps(list(kept.values()), indent=1))
    shown = ("name", "value", "unit", "baseline", "ratio", "n", "seconds")
    console.print(table([{key: entry[key] for key in shown} for entry in kept.values()], title=str(out)))


def _history(home: Path, days: int) -> tuple[configuration.Settings, Ref]:
    """A made-up history of so many days, collected and frozen."""
    from opstune import collect
    from opstune.simulate import write_history

    history = home / "history"
    urls = {"opstune_database": f"sqlite:///{history / 'oncall.db'}", "opstune_files": str(history)}
    settings = configuration.load({"home": home, "simulate": {"days": days}})
    write_history(history, settings.simulate)
    patient = settings.collect.model_copy(update={"days_back": 3650})
    reports = [
        collect.pull(name, settings.examples_dir, patient, urls.get, home=home) for name in collect.source_names()
    ]
    return settings, collect.snapshot(home / "collect", settings.examples_dir, reports)


def _demo() -> dict[str, float]:
    file = configuration.load().home / "demo_seconds.json"
    if not file.is_file():
        raise DataError("no demo has run here", str(file), "Run `make demo` first.")
    facts: dict[str, float] = json.loads(file.read_text())
    return facts


def _python(program: str, *arguments: str) -> float:
    """Run a program that prints one number in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    typer.run(main)
