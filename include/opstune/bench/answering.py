"""A server of OpenAI's chat completions in this process, one engine behind it, for an endpoint to be measured."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opstune.engines.base import Case, Engine
from opstune.engines.prompts import chat


@contextmanager
def serving(engine: Engine, cases: Sequence[Case]) -> Iterator[str]:
    """The root of a server that answers these cases under their schemas, one after the other, and any other chat with
    nothing."""
    known = {chat(case)[-1]["content"]: case for case in cases}
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            case = known.get(asked["messages"][-1]["content"])
            text, tokens = "", 0
            if case is not None:
                with one_at_a_time:
                    (said,) = engine.answer([case], constrained="response_format" in asked)
                text, tokens = said.text, said.tokens
            body = json.dumps(
                {"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": tokens}}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Every request is not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
