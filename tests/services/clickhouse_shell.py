"""The program behind ``clickhouse_server``: ``python clickhouse_shell.py USER PASSWORD`` prints its port and serves
until standard input ends. It needs chdb and nothing else.

The engine that runs the queries, its formats and its errors are ClickHouse's own; logins are this shell's.
"""

from __future__ import annotations

import base64
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

#: HTTP status by error code; 500 for others, as in ClickHouse's HTTPHandler.
STATUS = {516: 403, 60: 404, 81: 404, 62: 400, 47: 400, 46: 404, 6: 400, 53: 400, 386: 400}


def serve(user: str, password: str) -> None:
    """Serve until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(user, password))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


def _handler(user: str, password: str) -> type[BaseHTTPRequestHandler]:
    from chdb.session import Session

    session, one_at_a_time = Session(), threading.Lock()
    right = base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(parameters: dict[str, str], sql: str) -> Iterator[bytes]:
        """The blocks of an answer, the first of them empty once the query was accepted."""
        with one_at_a_time:
            session.query(f"USE {parameters.get('database') or 'default'}")
            for name, value in parameters.items():
                if name.startswith("param_"):
                    session.query(f"SET {name} = '{value}'")
            found = re.search(r"FORMAT\s+(\w+)\s*$", sql)
            form = found[1] if found else "TabSeparated"
            yield b""
            if not re.match(r"\s*(?:SELECT|WITH)\b", sql):
                yield session.query(sql, form).bytes()
                return
            with session.send_query(sql, form) as blocks:
                for block in blocks:
                    yield block.bytes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if self.headers.get("Authorization") != f"Basic {right}":
                told = "Authentication failed: password is incorrect, or there is no user with such name"
                self._refuse(f"Code: 516. DB::Exception: {told}. (AUTHENTICATION_FAILED)")
                return
            blocks = answer(parameters, "\n".join(filter(None, (parameters.get("query"), body))))
            try:
                next(blocks)
                first = next(blocks, b"")
            except Exception as error:
                self._refuse(str(error))
                return
            self._stream(first, blocks)

        def _stream(self, first: bytes, blocks: Iterator[bytes]) -> None:
            self.send_response_only(200)
            self.send_header("X-ClickHouse-Timezone", "UTC")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._chunk(first)
            try:
                for block in blocks:
                    self._chunk(block)
            except Exception as error:
                self._chunk(f"\n{error}".encode())
            self.wfile.write(b"0\r\n\r\n")

        def _chunk(self, block: bytes) -> None:
            if block:
                self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")

        def _refuse(self, told: str) -> None:
            found = re.search(r"Code: (\d+)", told)
            code = int(found[1]) if found else 0
            self.send_response_only(STATUS.get(code, 500))
            self.send_header("X-ClickHouse-Exception-Code", str(code))
            self.send_header("Content-Length", str(len(told.encode())))
            self.end_headers()
            self.wfile.write(told.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    return Handler


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
