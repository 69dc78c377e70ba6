"""Real Prometheus and Alertmanager for one test: a folder, a backfilled history, rules, started and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from needs import program

HOW = "apt-get install --no-install-recommends prometheus prometheus-alertmanager"

#: Labels of a series without its name, and the moments in milliseconds at which it is 1.
Series = tuple[Mapping[str, str], Iterable[int]]


def backfill(folder: Path, series: Iterable[Series]) -> None:
    """Write samples of ``ALERTS`` into the data of the Prometheus in ``folder``, which must not run."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "history.om"
    with text.open("w") as file:
        file.write("# TYPE ALERTS gauge\n")
        for labels, moments in series:
            inner = ",".join(f"{key}={quoted(value)}" for key, value in labels.items())
            file.writelines(f"ALERTS{{{inner}}} 1 {moment / 1000:.3f}\n" for moment in moments)
        file.write("# EOF\n")
    command = [program("promtool", HOW), "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h"]
    subprocess.run([*command, str(text), str(folder / "data")], check=True, capture_output=True)
    text.unlink()


def quoted(value: str) -> str:
    """A label's value in quotes, escaped as OpenMetrics wants it."""
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'


@contextmanager
def prometheus(
    folder: Path,
    groups: list[dict[str, Any]] | None = None,
    *,
    web: dict[str, Any] | None = None,
    alertmanager: str = "",
    flags: Iterable[str] = (),
    **request: Any,
) -> Iterator[str]:
    """A running Prometheus with rule ``groups``; gives its URL. ``web`` is its TLS and login, ``request`` what
    httpx needs to get past them, ``alertmanager`` host and port of the one that it tells."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups or []}))
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1m"},
        "rule_files": [str(folder / "rules.yml")],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus", HOW),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=400d",
        f"--web.listen-address={address}",
        *flags,
    ]
    if web:
        (folder / "web.yml").write_text(yaml.safe_dump(web))
        command.append(f"--web.config.file={folder / 'web.yml'}")
    scheme = "https" if web and "tls_server_config" in web else "http"
    with _running(command, folder / "prometheus.log", f"{scheme}://{address}", request) as url:
        yield url


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """A running Alertmanager that tells nobody; gives its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus-alertmanager", HOW),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with _running(command, folder / "alertmanager.log", f"http://{address}", {}) as url:
        yield url


def wait_until(true: Callable[[], bool]) -> None:
    """Ask until it holds, for a minute at most."""
    pause = threading.Event()
    for _ in range(300):
        if true():
            return
        pause.wait(0.2)
    raise AssertionError("it never came true")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], log: Path, url: str, request: Mapping[str, Any]) -> Iterator[str]:
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        _wait_until_ready(server, log, url, request)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _wait_until_ready(server: subprocess.Popen[bytes], log: Path, url: str, request: Mapping[str, Any]) -> None:
    pause = threading.Event()
    with httpx.Client(trust_env=False, **request) as client:
        for _ in range(600):
            if server.poll() is not None:
                break
            try:
                if client.get(f"{url}/-/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            pause.wait(0.05)
    raise RuntimeError(f"the server at {url} did not come up: {log.read_text()[-2000:]}")
