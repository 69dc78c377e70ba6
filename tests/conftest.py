"""No test reaches a network, a model hub or the state of this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", GOMP_SPINCOUNT="1000")
os.environ.setdefault("OPSTUNE_TOOLS", str(ROOT / ".opstune" / "tools"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left alone with one of them at the end; drills where asked for."""
    folders = ("e2e", "services", "unit")
    items.sort(key=lambda item: (item.get_closest_marker("e2e") is None, *(f not in item.path.parts for f in folders)))
    if not {"1"} & {os.environ.get("OPSTUNE_CI"), os.environ.get("OPSTUNE_DRILLS")}:
        put_off = pytest.mark.skip(reason="a drill of minutes: OPSTUNE_DRILLS=1 make test runs it, and CI does")
        for item in items:
            if item.get_closest_marker("drill"):
                item.add_marker(put_off)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a state of its own; nobody's ``.opstune`` is read or written."""
    home = tmp_path / "home"
    monkeypatch.setenv("OPSTUNE_HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("OPSTUNE__", "AIRFLOW_CONN_"))]:
        monkeypatch.delenv(name)
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections leave this machine only over a failing test."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not _is_loopback(str(address[0])):
            raise AssertionError(f"a test wanted to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
