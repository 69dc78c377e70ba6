"""The HTTP client against a server of the test's own that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, SecretStr

from opstune.errors import AccessDenied, ConfigError, DataError, OpstuneError, ServiceDown, Throttled
from opstune.http import Http, within
from opstune.settings import Connection, Patience

QUICK = Patience(attempts=3, backoff_seconds=0, timeout_seconds=0.3, longest_wait_seconds=1)
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Gives each answer once, the last one for ever; yields its address and the requests that came."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
            answers[min(len(seen), len(answers)) - 1](self)

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{running.server_port}", seen
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def says(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def says_nothing(handler: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(0.6)


GOOD = says(200, b'{"ok": true}')
HALF = says(200, b'{"ok"', Content_Length="100")


def ask(address: str, login: str = "", patience: Patience = QUICK, **options: Any) -> Any:
    with Http("the monitor", Connection(url=SecretStr(f"http://{login}{address}/api")), patience, **options) as http:
        return http.get("v1/things", {"a": 1})


@pytest.mark.parametrize("fault", [says_nothing, says(429, Retry_After="1")])
def test_what_has_a_time_is_given_up_when_that_is_over_however_patient_one_may_be(fault: Answer) -> None:
    patient = Patience(attempts=5, backoff_seconds=0, timeout_seconds=30, longest_wait_seconds=30)
    with server(fault) as (address, seen):
        with within(0.3), pytest.raises((ServiceDown, Throttled)):
            ask(address, patience=patient)
        with within(0), pytest.raises(ServiceDown, match="the time for the monitor is over"):
            ask(address, patience=patient)
    assert len(seen) == 1
    with server(GOOD) as (address, _):
        assert ask(address) == {"ok": True}


@pytest.mark.parametrize(
    "fault", [says(500), says(503), HALF, says(200, b"<html>"), says(429, Retry_After="0"), says_nothing]
)
def test_a_passing_fault_is_asked_again_until_the_answer_is_good(fault: Answer) -> None:
    with server(fault, GOOD) as (address, seen):
        assert ask(address) == {"ok": True}
    assert [request["path"] for request in seen] == ["/api/v1/things?a=1"] * 2


@pytest.mark.parametrize(
    ("fault", "error", "sentence", "times"),
    [
        (says(500, b"disk full"), ServiceDown, r"the monitor has a fault of its own \(HTTP 500\): disk full", 3),
        (HALF, ServiceDown, "breaks off in the middle of an answer", 3),
        (says(200, b"<html>sign in"), ServiceDown, "not JSON: <html>sign in", 3),
        (says_nothing, ServiceDown, "does not answer in time", 3),
        (says(429, Retry_After="0"), Throttled, "asks to slow down", 3),
        (says(429, Retry_After="90"), Throttled, r"asks to slow down \(HTTP 429, 90 s\)", 1),
        (says(401, b"who?"), AccessDenied, r"refuses access \(HTTP 401\): who\?.*Correct the login", 1),
        (says(403), AccessDenied, "HTTP 403", 1),
        (says(404), ConfigError, r"has nothing there \(HTTP 404\).*address", 1),
        (says(400, b"parse error"), ConfigError, r"refuses the request \(HTTP 400\): parse error", 1),
        (says(302, Location="https://login"), ConfigError, "sends on to 'https://login'.*token is missing", 1),
    ],
)
def test_faults_are_told_apart_and_only_passing_ones_are_asked_again(
    fault: Answer, error: type[OpstuneError], sentence: str, times: int
) -> None:
    with server(fault) as (address, seen), pytest.raises(error, match=sentence):
        ask(address)
    assert len(seen) == times


def test_a_throttled_request_waits_as_long_as_it_was_told() -> None:
    with server(says(429, Retry_After="0.2"), GOOD) as (address, _):
        patient = QUICK.model_copy(update={"longest_wait_seconds": 0.5})
        assert ask(address, patience=patient) == {"ok": True}


def test_nobody_there_is_an_outage() -> None:
    with pytest.raises(ServiceDown, match=r"does not answer.*next run goes on"):
        ask("127.0.0.1:1")


@pytest.mark.parametrize(
    ("login", "options", "header"),
    [
        ("me:pa%40ss@", {}, "Basic bWU6cGFAc3M="),
        (":key@", {}, "Bearer key"),
        (":key@", {"scheme": ""}, "key"),
        ("", {}, None),
    ],
)
def test_a_login_goes_along_as_the_connection_says(login: str, options: dict[str, Any], header: str | None) -> None:
    with server(GOOD) as (address, seen):
        ask(address, login, **options)
    assert seen[0].get("authorization") == header


@pytest.mark.parametrize("login", ["me:hunter2@", ":hunter2@"])
def test_a_secret_that_a_server_repeats_is_not_shown(login: str) -> None:
    with server(says(401, b"hunter2 is wrong")) as (address, _), pytest.raises(AccessDenied) as caught:
        ask(address, login)
    assert "hunter2" not in str(caught.value) and "*** is wrong" in str(caught.value)


def test_a_clock_that_is_an_hour_ahead_is_told_and_used(caplog: pytest.LogCaptureFixture) -> None:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    ahead = datetime.now(UTC) + timedelta(hours=1)
    with server(says(200, b"{}", Date=format_datetime(ahead, usegmt=True))) as (address, _):
        connection = Connection(url=SecretStr(f"http://{address}"))
        with Http("the monitor", connection, QUICK) as http:
            http.get("x")
            http.get("x")
            assert abs(http.now() - ahead) < timedelta(seconds=5)
    assert [record.message for record in caplog.records] == ["the clock of the monitor is 60 minutes ahead"]


def test_an_answer_in_another_form_is_told_key_by_key() -> None:
    class Form(BaseModel):
        status: str

    connection = Connection(url=SecretStr("http://127.0.0.1:1"))
    with Http("the monitor", connection, QUICK) as http, pytest.raises(DataError, match=r"status: field required"):
        http.parsed(Form, {"state": 1})


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    connection = Connection(url=SecretStr("https://127.0.0.1:1"), ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"ca_file of the monitor cannot be read.*ca\.pem"):
        Http("the monitor", connection, QUICK)


def test_a_body_is_sent_as_json_and_read_as_json() -> None:
    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"got": json.loads(body)}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        connection = Connection(url=SecretStr(f"http://127.0.0.1:{running.server_port}"))
        with Http("echo", connection, QUICK) as http:
            assert http.post("graphql", {"query": "x"}) == {"got": {"query": "x"}}
    finally:
        running.shutdown()
        running.server_close()


def test_the_page_after_this_one_stands_in_the_link_header() -> None:
    first = says(200, b"[1]", Link='<https://x.example/things?page=2>; rel="next", <https://x.example>; rel="last"')
    with (
        server(first, says(200, b"[2]")) as (address, _),
        Http("the monitor", Connection(url=SecretStr(f"http://{address}")), QUICK) as http,
    ):
        assert http.page("things") == ([1], "https://x.example/things?page=2")
        assert http.page("things") == ([2], "")


def test_a_system_may_tell_faults_in_a_way_of_its_own() -> None:
    def told(response: httpx.Response) -> OpstuneError | None:
        return ServiceDown("it is tired") if b"tired" in response.content else None

    with server(says(200, b'"tired"'), GOOD) as (address, seen):
        assert ask(address, fault=told) == {"ok": True}
    assert len(seen) == 2
