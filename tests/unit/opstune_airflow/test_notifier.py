"""What on-call reads when a task has failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from opstune.errors import OutOfMemory
from opstune_airflow import notifier, settings, tasks

RUN = "manual__2026-11-02T03:00:00.5+00:00"


def context(error: Exception, task_id: str = "train.adapter") -> dict[str, Any]:
    task = SimpleNamespace(task_id=task_id, dag_id="retrain_weekly", try_number=2, max_tries=3)
    return {"ti": task, "dag_run": SimpleNamespace(dag_id="retrain_weekly", run_id=RUN), "exception": error}


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A real channel that keeps what it is sent."""
    heard: list[dict[str, Any]] = []

    class Channel(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Channel) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(settings, "connection_url", lambda name: f"http://127.0.0.1:{server.server_port}/hook")
        yield heard
        server.shutdown()


def test_a_failure_says_what_broke_where_what_was_saved_and_what_to_do(own_home: Path) -> None:
    folder = own_home / "runs" / tasks.run_id("retrain_weekly", RUN)
    for made in ("dataset/manifest.json", "train.work/checkpoint-50/x", "train.work/checkpoint-100/x"):
        (folder / made).parent.mkdir(parents=True, exist_ok=True)
        (folder / made).touch()
    told = notifier.summary(
        context(OutOfMemory("the device ran out of memory", "step 120", "Take a smaller profile.")), final=True
    )
    assert told["what broke"] == "the device ran out of memory"
    assert "train.adapter" in told["where"] and "step 120" in told["where"] and "attempt 2 of 4" in told["where"]
    assert told["what was saved"].startswith("dataset, training up to step 100")
    assert "champion stays" in told["what comes next"]
    assert told["what to do"] == "Take a smaller profile."


@pytest.mark.parametrize("final", [True, False])
def test_only_the_last_failure_reaches_the_alert_channel(alerts: list[dict[str, Any]], final: bool) -> None:
    notifier.FailureSummary(final).notify(context(ValueError("a bug")))
    assert [alert["what broke"] for alert in alerts] == (["ValueError: a bug"] if final else [])


def test_an_error_without_advice_gets_the_advice_of_its_stage() -> None:
    told = notifier.summary(context(ValueError("a bug"), "convert.gguf"), final=True)
    assert told["what to do"] == notifier.WHEN_IT_FAILS["convert"]


def test_a_dead_alert_channel_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "connection_url", lambda name: "http://me:secret@127.0.0.1:9/hook")
    notifier.send({"what broke": "x"})
    assert "could not be sent" in caplog.text and "secret" not in caplog.text
