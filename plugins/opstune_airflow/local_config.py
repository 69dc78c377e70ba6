"""The configuration of the Airflow of our own: airflow.cfg, its keys, and the administrator's password."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from opstune.errors import ServiceDown

REPOSITORY: Final = Path(__file__).resolve().parents[2]
USER: Final = "admin"
PASSWORDS: Final = "simple_auth_manager_passwords.json.generated"
_KEYS: Final = (("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret"))


def write(folder: Path, port: int) -> None:
    """Write airflow.cfg and the password file for their owner only; keys and password stay what they were."""
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(folder, port)
    previous = configparser.ConfigParser(interpolation=None)
    previous.read(folder / "airflow.cfg")
    for section, key in _KEYS:
        config.setdefault(section, {})[key] = previous.get(section, key, fallback="") or _new(key)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict({section: {k: v.replace("%", "%%") for k, v in keys.items()} for section, keys in config.items()})
    with private_file(folder / "airflow.cfg") as file:
        parser.write(file)
    if not (folder / PASSWORDS).is_file():
        with private_file(folder / PASSWORDS) as file:
            json.dump({USER: secrets.token_urlsafe(12)}, file)


def configuration(folder: Path, port: int) -> dict[str, dict[str, str]]:
    """Short loops, few processes: one machine with two cores should spend them on training."""
    address = f"http://127.0.0.1:{port}"
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": "4",
            "load_examples": "False",
            "dags_folder": str(REPOSITORY / "dags"),
            "plugins_folder": str(REPOSITORY / "plugins"),
            "execution_api_server_url": f"{address}/execution/",
            "execute_tasks_new_python_interpreter": "False",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(folder / PASSWORDS),
        },
        # the driver gives a locked file 5 seconds, too few when training has both cores
        "database": {"sql_alchemy_conn": f"sqlite:///{folder / 'airflow.db'}?timeout=60"},
        "logging": {"base_log_folder": str(folder / "logs")},
        "api": {"host": "127.0.0.1", "port": str(port), "base_url": address, "workers": "1"},
        "scheduler": {"scheduler_idle_sleep_time": "0.3", "scheduler_heartbeat_sec": "1"},
        "dag_processor": {"parsing_processes": "1"},
    }


def free_port(first: int) -> int:
    """The first port from ``first`` on that nobody listens on at 127.0.0.1."""
    for port in range(first, first + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceDown(f"no free port from {first} to {first + 199}", "127.0.0.1", "End what listens there.")


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[IO[str]]:
    """A file that only its owner can read, replaced as a whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        yield file
    partial.replace(path)


def _new(key: str) -> str:
    if key != "fernet_key":
        return secrets.token_hex(64)
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
