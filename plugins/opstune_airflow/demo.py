"""The newcomer's show: a generated history, Airflow, two retrains, and a question to the new model.

    python -m opstune_airflow.demo [--keep]

State stands under OPSTUNE_HOME and is made anew each time. The exit code is 0 only if Airflow's database
calls both DAG runs a success and the first model passed its gate, as 1.0.0; the weekly one may be rejected.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from opstune import settings as configuration
from opstune.errors import ConfigError, OpstuneError
from opstune_airflow import catalog
from opstune_airflow.follow import follow, log_file
from opstune_airflow.local_config import USER
from opstune_airflow.standalone import Standalone

if TYPE_CHECKING:
    from opstune.evaluate import Verdict
    from opstune.registry import Version
    from opstune.settings import Settings

MARK: Final = "demo.json"
SECONDS: Final = "demo_seconds.json"
#: Two cores train some 4,000 tokens a second, and a newcomer should have an answer within minutes.
SHORT: Final = {"OPSTUNE__DATASET__CAPS": '{"remediation": 2000}'}
#: Downloads that are needed again, and what `make bench` measured.
KEPT: Final = ("tools", "bench.json")
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave Airflow's UI running")
    keep = parser.parse_args().keep
    logging.basicConfig(level=logging.WARNING)
    for name, value in {"OPSTUNE_HOME": ".opstune", **SHORT}.items():
        os.environ.setdefault(name, value)
    airflow = Standalone(Path(os.environ["OPSTUNE_HOME"]), tell=_tell)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        clean(airflow)
        show(airflow)
        return 0
    except OpstuneError as error:
        console.print(f"[bold red]{error}[/]", markup=True)
        return 1
    finally:
        if keep and airflow.running():
            _say(f"Airflow stays up: {airflow.url}  user {USER}, password in {airflow.password_file}")
        else:
            airflow.stop()


def show(airflow: Standalone) -> None:
    """Everything from the empty folder to the answer.

    Raises:
        OpstuneError: a run failed, or the gate did not let the first model through.
    """
    from opstune.simulate import write_history

    settings = configuration.load()
    history = settings.home / "history"
    started = time.monotonic()
    _say("Setting up: a generated history of a platform team that does not exist, and Airflow")
    write_history(history, settings.simulate)
    _tell(f"history   {settings.simulate.days} days in {history}  {time.monotonic() - started:.0f} s")
    airflow.start()
    facts = {"setup_seconds": round(time.monotonic() - started, 1)}
    first = retrain(airflow, settings, "retrain_monthly", "The first retrain: everything, from the base model")
    facts["first_retrain_seconds"] = first
    if not _registry(settings).champion():
        todo = "The table above names the lines that were not passed; the report shows the cases."
        raise OpstuneError("the gate did not let the first model through", str(settings.runs_dir), todo)
    _say("One more week passes")
    write_history(history, settings.simulate, weeks_after=1)
    title = "The weekly retrain, with the new week"
    facts["second_retrain_seconds"] = retrain(airflow, settings, "retrain_weekly", title)
    ask(_registry(settings).champion(), settings)
    (settings.home / SECONDS).write_text(json.dumps(facts))
    _say(", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in facts.items()))


def retrain(airflow: Standalone, settings: Settings, dag_id: str, title: str) -> float:
    """Trigger a DAG in Airflow's scheduler, follow it, show its verdict; returns the seconds it ran.

    Raises:
        OpstuneError: the run failed; says in which task and shows the end of its log.
    """
    _say(title)
    client = airflow.client()
    client.wait_for_dag(dag_id)
    client.unpause(dag_id)
    run_id = client.trigger(dag_id)
    _remember(settings.home, catalog.run_folder(dag_id, run_id))
    if follow(client, airflow.log_folder, dag_id, run_id, _tell) != "success":
        failed = [task for task in client.tasks(dag_id, run_id) if task["state"] == "failed"]
        for task in failed[:1]:
            lines = client.log(dag_id, run_id, task["task_id"], max(task["try_number"], 1), task["map_index"])
            console.print("\n".join(lines[-25:]), markup=False)
            raise OpstuneError(
                f"{dag_id} failed in {task['task_id']}", str(log_file(airflow.log_folder, dag_id, run_id, task))
            )
        raise OpstuneError(f"{dag_id} failed", airflow.url, "Look at the run in Airflow.")
    run = client.run(dag_id, run_id)
    seconds = (datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])).total_seconds()
    _tell(f"{dag_id} is a success in Airflow's database after {seconds:.0f} s")
    show_verdict(settings.runs_dir / catalog.run_folder(dag_id, run_id))
    if run["note"]:
        console.print(run["note"], markup=False, style="bold")
    return seconds


def show_verdict(folder: Path) -> None:
    """The gate table of a run, and where to read on."""
    from opstune.artifacts import open_ref
    from opstune.evaluate import read_verdict

    shipped = folder / "gate_shipped"
    decided = shipped if shipped.is_dir() else folder / "gate"
    verdict = read_verdict(open_ref(decided))
    console.print(table(verdict, "the GGUF that ships" if decided is shipped else "the challenger"))
    for what, path in (
        ("report", decided / "report.html"),
        ("dataset card", folder / "dataset" / "card.html"),
        ("GGUF", folder / "convert" / "model.gguf"),
    ):
        if path.is_file():
            _tell(f"{what:<13} {path}")


def table(verdict: Verdict, what: str) -> Table:
    """Each line of a verdict: what was measured, how sure that is, what was asked."""
    from opstune.evaluate import gate_table

    rows = gate_table(verdict)
    shown = Table(title=f"The verdict on {what}. {verdict.sentence}", title_style="bold", title_justify="left")
    for column in rows[0] if rows else ():
        shown.add_column(column, justify="left" if column == "line" else "right")
    for row in rows:
        shown.add_row(*row.values(), style="red" if row["passed"] == "NO" else None)
    return shown


def ask(champion: Version, settings: Settings) -> None:
    """Put an alert of the test set, which no training saw, to the champion."""
    from opstune.serve import ask as answer

    example = _unseen(settings.runs_dir / champion.run_id / "dataset")
    said = answer(champion.folder, example.skill, example.context, settings.serve)
    _say(f"A question to opstune {champion.version}, from the test set")
    console.print_json(json.dumps(example.context), indent=None)
    took = f"{said.seconds * 1000:.0f} ms, " if said.seconds else ""
    _tell(f"the model     {said.text}  ({took}llama.cpp on this machine)")
    _tell(f"what was done {json.dumps(example.answer)}")
    console.print(
        "This proves the chain from history to an answer that passed its gate. It does not prove intelligence: "
        "tiny-ops has a few million parameters, and the platform team is made up."
    )


def _unseen(dataset: Path) -> Any:
    from opstune.tables import read_examples

    test = read_examples(dataset / "test.parquet")
    return next(
        example for example in test if example.skill == "remediation" and example.answer.get("function") != "none"
    )


def _registry(settings: Settings) -> Any:
    from opstune.registry import Registry

    return Registry(settings.tracking_uri, settings.registry, settings.home)


def clean(airflow: Standalone) -> None:
    """An empty home for the show: what the demo before this one made is thrown away, nothing else.

    Raises:
        ConfigError: work stands there that no demo made.
    """
    home = airflow.home
    for folder, name in (("runs", "*"), ("models", "*"), ("examples", "*")):
        other = {path.name for path in (home / folder).glob(name)} - (set(_made(home)) if folder == "runs" else set())
        if other and (folder == "runs" or not (home / MARK).is_file()):
            todo = "Give the demo a folder of its own: OPSTUNE_HOME=.demo make demo."
            raise ConfigError(f"{folder}/{min(other)} is work that is not the demo's", str(home), todo)
    airflow.stop()
    for path in home.iterdir() if home.is_dir() else ():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    home.mkdir(parents=True, exist_ok=True)
    _remember(home)


def _made(home: Path) -> list[str]:
    """The runs that the demo made here."""
    file = home / MARK
    return list(json.loads(file.read_text())["runs"]) if file.is_file() else []


def _remember(home: Path, *runs: str) -> None:
    (home / MARK).write_text(json.dumps({"runs": [*_made(home), *runs]}))


def _say(text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def _tell(text: str) -> None:
    console.print(f"{datetime.now():%H:%M:%S}  {text}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
