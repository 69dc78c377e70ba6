"""ClickHouse for the tests: the embedded engine chdb behind a shell that speaks as much of its HTTP interface as the
client needs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from fault_server import Answer, Request
from needs import path

USER, PASSWORD = "opstune_reader", "hunter2-of-the-reader"
HOW = "run .ci/servers, which installs chdb into .opstune/tools/chdb-venv"


class ClickHouse:
    """A running server. ``run`` is for the test's own tables."""

    def __init__(self, port: int) -> None:
        self.port = port

    def run(self, sql: str) -> str:
        answer = httpx.post(self.url(), content=sql, timeout=60, trust_env=False, auth=(USER, PASSWORD))
        assert answer.is_success, answer.text
        return answer.text

    def url(self, user: str = USER, password: str = PASSWORD, port: int = 0, database: str = "") -> str:
        return f"http://{user}:{password}@127.0.0.1:{port or self.port}/{database}"


@contextmanager
def running() -> Iterator[ClickHouse]:
    """A server in a process of its own, ended with the block."""
    command = [_python(), str(Path(__file__).with_name("clickhouse_shell.py")), USER, PASSWORD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield ClickHouse(int(process.stdout.readline()))
        finally:
            process.kill()


def forwarding(server: ClickHouse) -> Callable[[Request], Answer]:
    """Answers as the server does: faults can stand before it."""
    client = httpx.Client(trust_env=False, timeout=30)

    def answer(request: Request) -> Answer:
        kept = {"Authorization": request.headers.get("Authorization", "")}
        url = f"http://127.0.0.1:{server.port}/"
        response = client.request(request.method, url, params=request.query, content=request.body, headers=kept)
        told = {name: value for name, value in response.headers.items() if name.startswith("x-clickhouse")}
        return Answer(response.content, response.status_code, told)

    return answer


def _python() -> str:
    """An interpreter that has chdb."""
    if importlib.util.find_spec("chdb"):
        return sys.executable
    return str(path(Path(os.environ["OPSTUNE_TOOLS"]) / "chdb-venv" / "bin" / "python", HOW))
