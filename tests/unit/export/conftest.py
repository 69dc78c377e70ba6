"""The taught model of ``taught.py``, once a session, and the converter that set-up unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from taught import Taught, teach


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where `make setup` keeps llama.cpp's converter."""
    return Path(os.environ.get("OPSTUNE_TOOLS", Path(__file__).parents[3] / ".opstune" / "tools"))


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taught]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield teach(tmp_path_factory.mktemp("taught"))
    torch.set_num_threads(threads)
