"""One MLflow database for all, and a home and a registered model for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from stages import MakeRun, run_maker

from opstune.registry import Registry
from opstune.registry.catalogue import Catalogue
from opstune.settings import RegistrySettings


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: MLflow takes seconds to make its tables."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def home(own_home: Path) -> Path:
    own_home.mkdir()
    return own_home


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    """A registered model of the test's own in the common database."""
    return RegistrySettings(model_name=tmp_path.name, experiment=tmp_path.name)


@pytest.fixture
def registry(home: Path, tracking_uri: str, settings: RegistrySettings) -> Registry:
    return Registry(tracking_uri, settings, home)


@pytest.fixture
def catalogue(tracking_uri: str, settings: RegistrySettings) -> Catalogue:
    return Catalogue(tracking_uri, settings)


@pytest.fixture
def make_run(tmp_path: Path, home: Path) -> MakeRun:
    """Signed stages, each made from the one before; ``say`` tells one run's bytes from another's."""
    return run_maker(tmp_path / "runs", home / "keys")
