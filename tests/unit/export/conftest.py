"""The taught model of ``taught.py``, once a session, and the converter that set-up unpacked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from taught import Taught, teach


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where `make setup` keeps llama.cpp's converter."""
    return Path(os.environ.get("OPSTUNE_TOOLS", Path(__file__).parents[3] / ".opstune" / "tools"))


@pytest.fixture
def converter(tools: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The converter's folder, for export in this process: no bytecode files may stand in it."""
    from opstune.export.converter import ensure_converter

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return ensure_converter(tools)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return teach(tmp_path_factory.mktemp("taught"))
