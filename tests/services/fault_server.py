"""A threaded HTTP server that answers well, through a function of the test, until it is told to fail in a given way.

with FaultServer(answer) as server:                # answer(request) -> Answer
    with server.failing(FAULTS["429"], on="/api"): # paths that hold this text
        ...                                        # server.url fails here
    ...                                            # and answers here
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx


@dataclass(frozen=True)
class Request:
    """What was asked. ``path`` is without the query, and a whole URL when a client takes this server for a proxy."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """``body`` is sent as it is when it is bytes, else as JSON."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Fault:
    """One way to fail: an ``answer`` of its own, or the good one, changed: ``half`` of it, without end (``hang``),
    with a clock that is off (``skew``)."""

    answer: Answer | None = None
    half: bool = False
    hang: bool = False
    skew: timedelta | None = None

    def saying(self, body: Any) -> Fault:
        """The same fault with another body: wrong types and empty answers look different in each system."""
        return replace(self, answer=replace(self.answer or Answer(), body=body))


FAULTS: dict[str, Fault] = {
    "401": Fault(Answer({"error": "who are you"}, 401)),
    "403": Fault(Answer({"error": "not for you"}, 403)),
    "404": Fault(Answer({"error": "nothing here"}, 404)),
    "429": Fault(Answer({"error": "slow down"}, 429, {"Retry-After": "0"})),
    "429 for an hour": Fault(Answer({"error": "slow down"}, 429, {"Retry-After": "3600"})),
    "500": Fault(Answer({"error": "a bug"}, 500)),
    "timeout": Fault(hang=True),
    "half an answer": Fault(half=True),
    "broken JSON": Fault(Answer(b'{"data": [{"a": 1}, {"b"')),
    "wrong types": Fault(Answer({"data": 5, "status": ["success"]})),
    "an empty answer": Fault(Answer(b"")),
    "a clock an hour ahead": Fault(skew=timedelta(hours=1)),
    "a clock an hour behind": Fault(skew=timedelta(hours=-1)),
}


class FaultServer:
    """``requests`` holds all that was asked, in order. Loopback only, stops at the end of ``with``."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._fault: Callable[[Request], Fault | None] = lambda _request: None
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def failing(self, fault: Fault, on: str = "", after: int = 0, times: int | None = None) -> Iterator[None]:
        """Requests whose path holds ``on`` fail: all but the first ``after``, and only ``times`` of them."""
        seen = 0

        def failing(request: Request) -> Fault | None:
            nonlocal seen
            if on not in request.path:
                return None
            seen += 1
            return fault if seen > after and (times is None or seen <= after + times) else None

        self._fault = failing
        try:
            yield
        finally:
            self._fault = lambda _request: None

    def reply(self, request: Request) -> tuple[Answer, Fault]:
        """The answer to a request and how it is to be spoilt."""
        self.requests.append(request)
        fault = self._fault(request) or Fault()
        if fault.hang:
            self._over.wait(30)
        return fault.answer or self.answer(request), fault


def forwarding(upstream: str) -> Callable[[Request], Answer]:
    """Answers as the server at ``upstream`` does: faults can stand before a real server."""

    def answer(request: Request) -> Answer:
        kept = {key: value for key, value in request.headers.items() if key.lower() in ("content-type", "accept")}
        url = upstream.rstrip("/") + urlsplit(request.path).path
        with httpx.Client(trust_env=False, verify=False, timeout=30) as client:
            response = client.request(
                request.method, url, params=request.query or None, content=request.body, headers=kept
            )
        passed = {"Content-Type": response.headers.get("content-type", "application/json")}
        return Answer(response.content, response.status_code, passed)

    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the test; a fault of the test's own answer is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(server: FaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_HEAD(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def _serve(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = address._replace(query="", fragment="").geturl()
            asked = Request(self.command, path, dict(parse_qsl(address.query)), dict(self.headers), body)
            answer, fault = server.reply(asked)
            try:
                self._send(answer, fault)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def _send(self, answer: Answer, fault: Fault) -> None:
            content = answer.content
            self.send_response_only(answer.status)
            told = datetime.now(UTC) + (fault.skew or timedelta())
            self.send_header("Date", format_datetime(told, usegmt=True))
            for key, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if fault.half else content)
            self.close_connection = fault.half or fault.hang

        def log_message(self, format: str, *args: Any) -> None:
            """The test reads ``requests`` instead."""

    return Handler
