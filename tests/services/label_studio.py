"""A real Label Studio for a session of tests: its own data folder, a port of its own, stopped with its children.

A first start makes the database, which takes half a minute and more; what it made is kept beside the environment and
copied by later starts.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock
from needs import path
from pydantic import SecretStr

from opstune.settings import Connection

HOW = "make it with .ci/label-studio, or name the program in OPSTUNE_LABEL_STUDIO"
USER, PASSWORD, TOKEN = "ann@example.org", "opstune-test", "0123456789abcdef0123456789abcdef01234567"
_READY_SECONDS = 400.0


def program() -> Path:
    """The ``label-studio`` program, or a skip."""
    beside = Path(os.environ["OPSTUNE_TOOLS"]) / "label-studio-venv" / "bin" / "label-studio"
    return path(Path(os.environ.get("OPSTUNE_LABEL_STUDIO", beside)), HOW)


@contextmanager
def label_studio(folder: Path) -> Iterator[str]:
    """A running Label Studio whose data is in ``folder``; gives its URL."""
    command = program()
    made = command.parents[1] / "fresh-data"
    with FileLock(f"{made}.lock"):
        if not (made / "ready").is_file():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            with _running(command, made):
                pass
            (made / "ready").touch()
    shutil.copytree(made, folder)
    with _running(command, folder) as url:
        yield url


@contextmanager
def _running(command: Path, folder: Path) -> Iterator[str]:
    port = _free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LABEL_STUDIO", "DJANGO"))},
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    arguments = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [str(command), *arguments], env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, folder / "server.log")
        yield url
    finally:
        _stop(server)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_SECONDS
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < end and server.poll() is None:
            try:
                if client.get(f"{url}/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise AssertionError(f"Label Studio did not start:\n{log.read_text()[-3000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
            server.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def connection(url: str, token: str = TOKEN) -> Connection:
    """The connection to a Label Studio, as Airflow would give it: the token is the password."""
    return Connection(url=SecretStr(url.replace("//", f"//:{token}@", 1)))


class People:
    """What people do, through Label Studio's API."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Token {TOKEN}"}, trust_env=False, timeout=60
        )
        self.users = {user["email"]: user["id"] for user in self._ask("GET", "/api/users/")}

    def close(self) -> None:
        self._client.close()

    def join(self, name: str) -> int:
        """One more person; returns the id."""
        if name not in self.users:
            body = {"email": name, "username": name.partition("@")[0], "first_name": "", "last_name": ""}
            self.users[name] = self._ask("POST", "/api/users/", json=body)["id"]
        return int(self.users[name])

    def tasks(self, project: str) -> dict[str, dict[str, Any]]:
        """The tasks of a project (by its title) with annotations, by the id of their example; fails on a double."""
        found = self._ask("GET", "/api/projects/", params={"page_size": 1000})["results"]
        number = next(one["id"] for one in found if one["title"] == project)
        asked = {"project": number, "page_size": 5000, "fields": "all"}
        tasks = self._ask("GET", "/api/tasks/", params=asked)["tasks"]
        by_id = {task["data"]["opstune_id"]: task for task in tasks}
        assert len(by_id) == len(tasks), "an example has two tasks"
        return by_id

    def annotate(self, task: int, result: Sequence[Mapping[str, Any]], by: str = USER) -> int:
        body = {"result": list(result), "completed_by": self.join(by)}
        return int(self._ask("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    def skip(self, task: int, by: str = USER) -> None:
        body = {"result": [], "completed_by": self.join(by), "was_cancelled": True}
        self._ask("POST", f"/api/tasks/{task}/annotations/", json=body)

    def change(self, annotation: int, result: Sequence[Mapping[str, Any]]) -> None:
        self._ask("PATCH", f"/api/annotations/{annotation}/", json={"result": list(result)})

    def delete(self, what: str, number: int) -> None:
        self._ask("DELETE", f"/api/{what}/{number}/")

    def add(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._ask("POST", f"/api/projects/{project}/import", json=list(tasks))

    def personal_token(self) -> str:
        return str(self._ask("POST", "/api/token/", json={})["token"])

    def project_id(self, title: str) -> int:
        found = self._ask("GET", "/api/projects/", params={"page_size": 1000})["results"]
        return next(int(one["id"]) for one in found if one["title"] == title)

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        response = self._client.request(method, path, **request)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None
