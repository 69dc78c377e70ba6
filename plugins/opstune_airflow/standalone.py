"""A whole Airflow of our own on this machine: SQLite, LocalExecutor, one administrator, 127.0.0.1 only.

    python -m opstune_airflow.standalone up|down|status

Everything it writes stands under ``<OPSTUNE_HOME>/airflow``. It is for one machine and one person;
``docker-compose.yaml`` is the shape of the real thing.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from opstune.errors import ConfigError, ServiceDown
from opstune.settings import load
from opstune.simulate import write_history
from opstune_airflow import local_config
from opstune_airflow.client import Client
from opstune_airflow.local_config import REPOSITORY, USER

COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_HEALTH = {"scheduler": "scheduler", "dag_processor": "dag-processor", "triggerer": "triggerer"}

Tell = Callable[[str], None]


class Standalone:
    """The Airflow of one OPSTUNE_HOME. ``start`` and ``stop`` may be called in any state."""

    def __init__(
        self, home: Path, tell: Tell = print, environment: dict[str, str] | None = None, first_port: int = 8080
    ) -> None:
        self.home = home.resolve()
        self.folder = self.home / "airflow"
        self.tell = tell
        self.environment = environment or {}
        self.first_port = first_port

    @property
    def log_folder(self) -> Path:
        return self.folder / "logs"

    @property
    def password_file(self) -> Path:
        return self.folder / local_config.PASSWORDS

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._state()['port']}"

    def client(self) -> Client:
        """A signed-in client of the running Airflow's REST API."""
        return Client(self.url, USER, json.loads(self.password_file.read_text())[USER])

    def start(self, timeout: float = 600.0) -> float:
        """Bring it up and wait until every part is healthy; returns the seconds it took.

        Raises:
            ServiceDown: a part died or did not become healthy; names its log file.
        """
        started = time.monotonic()
        if self.running():
            self.tell(f"Airflow is already up at {self.url}")
            return 0.0
        self.stop()
        self.log_folder.mkdir(parents=True, exist_ok=True)
        port = local_config.free_port(self.first_port)
        local_config.write(self.folder, port)
        self._prepare_database()
        self.tell(f"airflow   database ready  {time.monotonic() - started:.0f} s")
        parts = {name: self._spawn(name, command) for name, command in COMPONENTS.items()}
        self._state_file.write_text(json.dumps({"port": port, "parts": parts}))
        self._wait_until_healthy(port, started, timeout)
        return time.monotonic() - started

    def revive(self, timeout: float = 600.0) -> list[str]:
        """Start the parts that died, while the others go on; returns their names."""
        started, state = time.monotonic(), self._state()
        dead = sorted(set(COMPONENTS) - set(self._live()))
        state["parts"].update({name: self._spawn(name, COMPONENTS[name]) for name in dead})
        self._state_file.write_text(json.dumps(state))
        self._wait_until_healthy(state["port"], started, timeout)
        return dead

    def pid(self, name: str) -> int:
        """The process of a part."""
        return int(self._state()["parts"][name][0])

    def stop(self) -> None:
        """End every part and whatever task it was running. Nothing happens if it is down."""
        parts = list(self._live().values())
        everything = [*parts, *(child for part in parts for child in _children(part))]
        for process in parts:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(everything, timeout=15)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        self._state_file.unlink(missing_ok=True)

    def running(self) -> bool:
        return len(self._live()) == len(COMPONENTS)

    def status(self) -> dict[str, str]:
        """Each part and whether Airflow itself calls it healthy."""
        if not self._state_file.is_file():
            return dict.fromkeys(COMPONENTS, "down")
        live = self._live()
        health = _health(self._state()["port"])
        return {name: health.get(name, "starting") if name in live else "down" for name in COMPONENTS}

    def child_environment(self) -> dict[str, str]:
        """What the parts run with: our configuration only, whatever Airflow the shell points at."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
        paths = [str(REPOSITORY / "include"), str(REPOSITORY / "plugins")]
        return {
            **kept,
            "AIRFLOW_HOME": str(self.folder),
            "OPSTUNE_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "PYTHONWARNINGS": "ignore:GitWildMatchPattern",  # Airflow's own, once a process, in every task log
            **{name: value for name, value in self._generated_history().items() if name not in os.environ},
            **self.environment,
        }

    def _generated_history(self) -> dict[str, str]:
        """The connections to the generated history, for sources that nobody has connected to anything real."""
        history = self.home / "history"
        if not history.is_dir():
            return {}
        connections: dict[str, dict[str, Any]] = {
            "OPSTUNE_DATABASE": {"conn_type": "sqlite", "host": str(history / "oncall.db")},
            "OPSTUNE_FILES": {"conn_type": "fs", "extra": {"path": str(history)}},
        }
        return {f"AIRFLOW_CONN_{name}": json.dumps(connection) for name, connection in connections.items()}

    @property
    def _state_file(self) -> Path:
        return self.folder / "standalone.json"

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError("Airflow is not up", str(self.folder), "Start it with `make up`.") from error
        return state

    def _live(self) -> dict[str, psutil.Process]:
        """The parts that run. A pid is given away again after a crash, so its start time must fit too."""
        live = {}
        for name, (pid, born) in self._state()["parts"].items() if self._state_file.is_file() else ():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == born and process.status() != psutil.STATUS_ZOMBIE:
                    live[name] = process
        return live

    def _prepare_database(self) -> None:
        command = [sys.executable, "-m", "opstune_airflow.apply_settings", "--migrate", "--only", "pools,variables"]
        log = self.log_folder / "database.log"
        with log.open("ab") as file:
            done = subprocess.run(
                command, env=self.child_environment(), cwd=REPOSITORY, stdout=file, stderr=file, check=False
            )
        if done.returncode:
            raise ServiceDown("Airflow's database could not be prepared", str(log), "Its last lines say why.")

    def _spawn(self, name: str, command: list[str]) -> tuple[int, float]:
        with (self.log_folder / f"{name}.log").open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=self.child_environment(),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return process.pid, psutil.Process(process.pid).create_time()

    def _wait_until_healthy(self, port: int, started: float, timeout: float) -> None:
        told: set[str] = set()
        next_word = time.monotonic() + 15
        while time.monotonic() - started < timeout:
            live = self._live()
            for name in COMPONENTS:
                if name not in live:
                    log = self.log_folder / f"{name}.log"
                    self.stop()
                    raise ServiceDown(f"Airflow's {name} ended while starting", str(log), "Its last lines say why.")
            healthy = {name for name, state in _health(port).items() if state == "healthy"}
            for name in sorted(healthy - told):
                self.tell(f"airflow   {name:<14}  healthy  {time.monotonic() - started:.0f} s")
            told |= healthy
            if told == set(COMPONENTS):
                _warm_up(port)
                return
            if time.monotonic() > next_word:
                next_word = time.monotonic() + 15
                missing = ", ".join(sorted(set(COMPONENTS) - told))
                self.tell(f"airflow   waiting for {missing}  {time.monotonic() - started:.0f} s")
            time.sleep(0.5)
        waiting = ", ".join(sorted(set(COMPONENTS) - told))
        self.stop()
        raise ServiceDown(f"{waiting} not healthy after {timeout:.0f} s", str(self.log_folder), "Read the logs there.")


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _health(port: int) -> dict[str, str]:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5)
        parts = answer.json() if answer.is_success else {}
    except (httpx.HTTPError, ValueError):
        return {}
    found = {name: (parts.get(key) or {}).get("status") or "starting" for key, name in _HEALTH.items()}
    return {"api-server": "healthy", **found} if parts else {}


def _warm_up(port: int) -> None:
    """The api-server builds the routes that tasks talk to on their first request, which takes seconds."""
    with contextlib.suppress(httpx.HTTPError):
        httpx.patch(f"http://127.0.0.1:{port}/execution/task-instances/none/run", json={}, timeout=120)


def main() -> int:
    """Start, stop or show the Airflow of OPSTUNE_HOME."""
    asked = sys.argv[1] if len(sys.argv) == 2 else ""
    airflow = Standalone(Path(os.environ.get("OPSTUNE_HOME", ".opstune")))
    if asked == "up":
        settings = load()
        write_history(settings.home / "history", settings.simulate)
        seconds = airflow.start()
        print(f"Airflow is up after {seconds:.0f} s: {airflow.url}  user {USER}, password in {airflow.password_file}")
    elif asked == "down":
        airflow.stop()
        print("Airflow is down.")
    elif asked == "status":
        for name, state in airflow.status().items():
            print(f"{name:<14}  {state}")
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
