"""The few calls of Airflow's REST API that the demo, the tests and a person's scripts need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from opstune.errors import ServiceDown

FINISHED = ("success", "failed")


class Client:
    """Signed in to one Airflow. Every method raises ServiceDown when it does not answer as it should."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        answer = self._call("POST", "/auth/token", {"username": user, "password": password})
        self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"

    def has_dag(self, dag_id: str) -> bool:
        return self._http.get(f"/api/v2/dags/{dag_id}").is_success

    def import_errors(self) -> list[str]:
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in found]

    def wait_for_dag(self, dag_id: str, timeout: float = 60.0) -> None:
        """Until the DAG processor has read the file."""
        end = time.monotonic() + timeout
        while not self.has_dag(dag_id):
            if errors := self.import_errors():
                raise ServiceDown(f"{dag_id} cannot be read: {errors[0]}", "dags/", "Correct the file.")
            if time.monotonic() > end:
                raise ServiceDown(f"{dag_id} did not appear in {timeout:.0f} s", "Airflow", "Read dag-processor.log.")
            time.sleep(0.3)

    def unpause(self, dag_id: str, paused: bool = False) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run now; ``conf`` is the filled form. Returns the run id."""
        asked = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", asked)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self._call("GET", self._run_path(dag_id, run_id))

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return list(self._call("GET", f"{self._run_path(dag_id, run_id)}/taskInstances?limit=100")["task_instances"])

    def clear(self, dag_id: str, run_id: str, task_ids: list[str]) -> None:
        """Run these tasks of a run again, as the button does, without those behind them."""
        asked = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", asked)

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task's state, as the button does: a running one is ended."""
        self._call("PATCH", f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}", {"new_state": state})

    def set_pool(self, name: str, slots: int) -> None:
        asked = {"pool": name, "slots": slots, "include_deferred": False}
        self._call("PATCH", f"/api/v2/pools/{name}?update_mask=slots", asked)

    def mark(self, dag_id: str, run_id: str, state: str) -> None:
        self._call("PATCH", self._run_path(dag_id, run_id), {"state": state})

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        return self._call("GET", f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}")["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int, map_index: int = -1) -> list[str]:
        """The lines of one attempt's log, oldest first."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{attempt}?map_index={map_index}"
        lines = self._call("GET", path)["content"]
        return [line if isinstance(line, str) else str(line.get("event", "")) for line in lines]

    def wait(self, dag_id: str, run_id: str, timeout: float) -> str:
        """Until the run is finished; returns its state."""
        end = time.monotonic() + timeout
        while (state := str(self.run(dag_id, run_id)["state"])) not in FINISHED:
            if time.monotonic() > end:
                raise ServiceDown(
                    f"{dag_id} {run_id} is still {state} after {timeout:.0f} s", "Airflow", "Look at it there."
                )
            time.sleep(0.5)
        return state

    def _run_path(self, dag_id: str, run_id: str) -> str:
        return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body, headers={"Accept": "application/json"})
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except httpx.HTTPStatusError as error:
            said = error.response.text[:400]
            raise ServiceDown(
                f"Airflow answered {error.response.status_code}: {said}", path, "Read the api-server's log."
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceDown(f"Airflow does not answer: {error}", path, "Is it up? `make up` starts it.") from error
        return found
