"""A real MLflow tracking server on SQLite, on a free port of the loopback, that can be stopped and started again."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self

_PATIENCE = 240.0


ADMIN = "admin"
#: Whoever is logged in may read; a model's maker may do everything with it.
_LOGINS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/logins.db
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


class MlflowServer:
    """``mlflow server`` over one folder; what it was told outlives a ``stop``. With a password it asks who is there."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self._folder = folder
        self._password = password
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}", "--workers", "1",
            "--artifacts-destination", str(self._folder / "artifacts"),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        if self._password:
            command += ["--app-name", "basic-auth"]
            (self._folder / "logins.ini").write_text(_LOGINS.format(folder=self._folder, admin=ADMIN))
            environment["MLFLOW_AUTH_CONFIG_PATH"] = str(self._folder / "logins.ini")
            environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = self._password
            environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex()
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self._folder
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "mlflow server does not answer"

    def stop(self) -> None:
        """End it and its workers at once, as a machine that fails does."""
        if self._process:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
