"""How long production waits for a rollback: the registry's one command, beside bare alias flips in the same MLflow."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from opstune import artifacts, tracking
from opstune.artifacts import Ref
from opstune.bench.rows import Measured, row
from opstune.errors import ServiceDown
from opstune.registry import Registry
from opstune.security import signing
from opstune.settings import RegistrySettings

_TIMES = 50
#: Of each of adapter and GGUF: as much as the embedded base's.
_BYTES = 2_000_000
_START_SECONDS = 240.0
_LOGINS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/logins.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@row("registry_rollback_p99_seconds")
def rollback() -> Measured:
    """The 99th percentile of 50 rollbacks, everything verified and written; baseline: champion and previous flipped."""
    with tempfile.TemporaryDirectory() as folder:
        return _measured(f"sqlite:///{folder}/mlflow.db", Path(folder))


@row("registry_rollback_server_p99_seconds", on_request=True)
def rollback_server() -> Measured:
    """The same against a server with basic-auth, which hashes the password anew for each request."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as url:
        return _measured(url, Path(folder))


def _measured(tracking_uri: str, folder: Path) -> Measured:
    home, settings = folder / "home", RegistrySettings()
    registry = Registry(tracking_uri, settings, home)
    for name in ("first", "second"):
        version = registry.register(_run(folder / name, home / "keys"), "full", None, name)
        registry.promote(version.version, who="bench", why="measured")
    ours = _seconds(lambda _: registry.rollback(who="bench", why="measured"))
    client = tracking.connect(tracking_uri)

    def flip(number: int) -> None:
        for alias, version in (("champion", 1 + number % 2), ("previous", 2 - number % 2)):
            client.set_registered_model_alias(settings.model_name, alias, str(version))

    return Measured(_p99(ours), "s", _p99(_seconds(flip)), _TIMES)


def _seconds(act: Callable[[int], object]) -> list[float]:
    found = []
    for number in range(_TIMES):
        started = time.perf_counter()
        act(number)
        found.append(time.perf_counter() - started)
    return found


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


def _run(folder: Path, keys: Path) -> dict[str, Ref]:
    """A run whose model knows nothing, as large as the demo's and judged by a verdict made up here."""
    refs: dict[str, Ref] = {}
    training = json.dumps({"base": "none", "base_sha256": "0" * 64}).encode()
    verdict = {"verdict.json": b'{"verdict": "promote", "lines": []}', "report.html": b""}
    said = dict.fromkeys(("Modelfile", "chat_template.jinja", "tokenizer_config.json"), b"")
    for name, inputs, files in (
        ("dataset", (), {"dataset.json": folder.name.encode(), "card.html": b""}),
        ("adapter", ("dataset",), {"adapter_model.safetensors": os.urandom(_BYTES), "training.json": training}),
        ("gguf", ("adapter",), {"model.gguf": os.urandom(_BYTES), **said}),
        ("evaluation", ("gguf", "dataset"), {"evaluation.json": b"{}"}),
        ("verdict", ("evaluation", "dataset"), verdict),
    ):

        def fill(out: Path, files: dict[str, bytes] = files) -> dict[str, float]:
            for file, content in files.items():
                (out / file).write_bytes(content)
            return {}

        made_from = {key: refs[key] for key in inputs}
        refs[name] = artifacts.build(folder / name, name, made_from, {}, fill)
        signing.sign(refs[name].path, keys)
    return refs


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """The address, login included, of a tracking server of our own.

    Raises:
        ServiceDown: it did not start; MLflow's basic-auth needs Flask-WTF.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    password = secrets.token_hex()
    (folder / "logins.ini").write_text(_LOGINS.format(folder=folder))
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {
        **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "logins.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
    }  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=folder)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                last = (folder / "server.log").read_text().splitlines()[-1:]
                raise ServiceDown(f"not measured: mlflow server did not start: {last}", "bench", "Install Flask-WTF.")
        yield f"http://admin:{password}@127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        shutil.rmtree(folder / "artifacts", ignore_errors=True)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        time.sleep(0.5)
        return False
