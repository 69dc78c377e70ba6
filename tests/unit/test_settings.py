"""One configuration: precedence, and every fault told at once with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from opstune import settings
from opstune.errors import ConfigError


def test_form_beats_environment_beats_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().train.seed == 7
    monkeypatch.setenv("OPSTUNE__TRAIN__SEED", "8")
    assert settings.load().train.seed == 8
    assert settings.load({"train": {"seed": 9}}).train.seed == 9


@pytest.mark.parametrize(
    ("overrides", "environment", "told"),
    [
        ({"train": {"epochs": -1}}, {}, ["form", "train.epochs", "greater than 0", "-1"]),
        ({"train": {"speed": 3}}, {}, ["form", "train.speed", "no such key"]),
        ({}, {"OPSTUNE__TRAIN__SEED": "x"}, ["OPSTUNE__TRAIN__SEED", "integer", "'x'"]),
        ({}, {"OPSTUNE__TRANE__SEED": "1"}, ["OPSTUNE__TRANE__SEED", "no section", "train"]),
        ({"train": {"epochs": 0}}, {"OPSTUNE__EXPORT__NOPE": "1"}, ["train.epochs", "export.nope"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_place(
    monkeypatch: pytest.MonkeyPatch, overrides: dict[str, object], environment: dict[str, str], told: list[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        settings.load(overrides)
    assert [word for word in told if word not in str(caught.value)] == []


def _config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    written = settings.read_yaml(settings.config_dir() / "opstune.yaml")
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "opstune.yaml").write_text(yaml.safe_dump({**written, **changes}))
    monkeypatch.setenv("OPSTUNE_CONFIG", str(folder))


def test_a_wrong_value_in_the_file_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _config(tmp_path, monkeypatch, export={"quantisation": "Q2"})
    with pytest.raises(ConfigError, match=r"opstune\.yaml: export\.quantisation"):
        settings.load()


def test_connections_are_refused_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _config(tmp_path, monkeypatch, connections={"opstune_database": {"url": "sqlite://"}})
    with pytest.raises(ConfigError, match="secrets"):
        settings.load()


def test_a_connection_comes_from_the_environment_and_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSTUNE__CONNECTIONS__OPSTUNE_DATABASE__URL", "postgresql://u:hunter2@db/oncall")
    loaded = settings.load()
    found = loaded.connection("opstune_database")
    assert found and found.url.get_secret_value() == "postgresql://u:hunter2@db/oncall"
    assert (found.address, found.login, found.token) == ("postgresql://db/oncall", ("u", "hunter2"), None)
    assert loaded.connection("opstune_linear") is None
    assert "hunter2" not in repr(loaded) + loaded.model_dump_json()


def test_a_faulty_connection_does_not_tell_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSTUNE__CONNECTIONS__OPSTUNE_DATABASE__PASSWORD", "hunter2")
    with pytest.raises(ConfigError) as caught:
        settings.load()
    assert "hunter2" not in str(caught.value)
