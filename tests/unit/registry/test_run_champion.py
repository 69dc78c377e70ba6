"""A retrain begins by looking whether MLflow shows what the ledger says; where MLflow is down, the ledger is enough."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from stages import MakeRun

from opstune import settings as configuration
from opstune import tracking
from opstune.errors import AccessDenied, IntegrityError, ServiceDown
from opstune.pipeline import Run
from opstune.registry import Registry
from opstune.registry.catalogue import Catalogue
from opstune.settings import RegistrySettings

NOBODY = "http://me:hunter2@127.0.0.1:9"


@pytest.fixture
def champion(registry: Registry, make_run: MakeRun) -> str:
    """The second of two champions."""
    for name in ("first", "second"):
        version = registry.register(make_run(name), "full", None, name).version
        registry.promote(version, who="anna", why="it passed its gate")
    return version


def begun(name: str, tracking_uri: str, settings: RegistrySettings) -> Run:
    told = {"connections": {"opstune_mlflow": {"url": tracking_uri}}, "registry": settings.model_dump()}
    return Run(name, "full", configuration.load(told))


def test_an_alias_moved_by_hand_is_named_when_a_retrain_starts(
    champion: str, tracking_uri: str, settings: RegistrySettings
) -> None:
    client = tracking.connect(tracking_uri)
    client.set_registered_model_alias(settings.model_name, "champion", "1")
    run = begun("week", tracking_uri, settings)
    with pytest.raises(IntegrityError, match=r"the alias champion was moved by hand to 1\.0\.0"):
        _ = run.champion
    client.set_registered_model_alias(settings.model_name, "champion", "2")
    found = run.champion
    assert found and found.version == champion


def test_a_ledger_that_lost_everything_is_no_home_without_a_champion(
    champion: str, home: Path, tracking_uri: str, settings: RegistrySettings
) -> None:
    for line in (home / "ledger").glob("*.json"):
        line.unlink()
    with pytest.raises(IntegrityError, match="the ledger lost lines that MLflow knows of"):
        _ = begun("week", tracking_uri, settings).champion


def test_mlflow_that_is_down_keeps_no_retrain_from_its_champion(
    champion: str, settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        found = begun("week", NOBODY, settings).champion
    assert found and found.version == champion
    assert "Nobody could see whether MLflow agrees with the ledger" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_login_that_mlflow_refuses_is_told_when_a_retrain_starts_not_when_it_ends(
    champion: str, tracking_uri: str, settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Catalogue) -> None:
        raise AccessDenied("MLflow refused the login", "here", "Look at the connection opstune_mlflow.")

    monkeypatch.setattr(Catalogue, "seen", refused)
    with pytest.raises(AccessDenied):
        _ = begun("week", tracking_uri, settings).champion


def test_whom_a_run_began_with_is_settled_and_mlflow_is_not_asked_again(
    champion: str, registry: Registry, tracking_uri: str, settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun("week", tracking_uri, settings)
    assert run.champion
    registry.rollback(who="anna", why="too many restarts")

    def down(_: Catalogue) -> None:
        raise ServiceDown("MLflow is down")

    monkeypatch.setattr(Catalogue, "seen", down)
    again = run.champion
    assert again and again.version == champion
