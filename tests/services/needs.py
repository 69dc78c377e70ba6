"""A missing server is a skip that says how to get it; in CI, which installs them all, it is a failure."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest


def program(name: str, how: str) -> str:
    """The path of a program, or a skip."""
    found = shutil.which(name)
    return found if found else _missing(name, how)


def module(name: str, how: str) -> None:
    """Go on only when a module can be imported."""
    if importlib.util.find_spec(name) is None:
        _missing(name, how)


def path(found: Path, how: str) -> Path:
    """A file or folder that is there, or a skip."""
    return found if found.exists() else Path(_missing(str(found.name), how))


def _missing(what: str, how: str) -> str:
    told = f"{what} is not installed; {how}"
    if os.environ.get("OPSTUNE_CI") == "1":
        pytest.fail(told)
    pytest.skip(told)
