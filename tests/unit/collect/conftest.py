"""A configuration of the test's own, and a source in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from collecting import RULES, Place

from opstune.settings import config_dir


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real configuration without its sources."""
    folder = tmp_path / "config"
    folder.mkdir()
    for file in config_dir().glob("*.yaml"):
        shutil.copy(file, folder)
    (folder / "sources").mkdir()
    monkeypatch.setenv("OPSTUNE_CONFIG", str(folder))
    return folder


@pytest.fixture
def place(tmp_path: Path, config: Path) -> Place:
    place = Place(tmp_path / "state", config)
    place.rules(RULES)
    return place
