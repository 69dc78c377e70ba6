"""One small history, written once for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from opstune.settings import SimulateSettings
from opstune.simulate import Truth, write_history

SMALL = SimulateSettings(seed=7, days=9, incidents_per_day=14)


@pytest.fixture(scope="session")
def small() -> SimulateSettings:
    return SMALL


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("history")
    return folder, write_history(folder, SMALL)
