"""From connections and forms to the library's settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection
from sqlalchemy import make_url

from opstune.errors import ConfigError
from opstune_airflow import settings


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        (
            {
                "conn_type": "postgres",
                "host": "db",
                "port": 5432,
                "schema": "oncall",
                "login": "me",
                "password": "a/b@c",
            },
            "postgresql+psycopg://me:a%2Fb%40c@db:5432/oncall",
        ),
        ({"conn_type": "sqlite", "host": "/data/oncall.db"}, "sqlite:////data/oncall.db"),
        ({"conn_type": "fs", "extra": json.dumps({"path": "/data/files"})}, "file:///data/files"),
        ({"conn_type": "http", "host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "alerts", "schema": "https"}, "https://alerts"),
        ({"conn_type": "http", "host": "https://alerts.example.com/hook"}, "https://alerts.example.com/hook"),
        ({"conn_type": "http", "host": "ls", "password": "token"}, "http://:token@ls"),
    ],
)
def test_a_connection_becomes_one_url(fields: dict[str, Any], url: str) -> None:
    assert settings.as_url(Connection(conn_id="opstune_x", **fields)) == url


def test_a_password_survives_the_way_to_the_driver() -> None:
    connection = Connection(
        conn_id="x", conn_type="postgres", host="db", schema="d", login="me", password="p@ss:w/rd%?"
    )
    assert make_url(settings.as_url(connection)).password == "p@ss:w/rd%?"


def test_the_form_wins_over_the_environment_and_an_empty_field_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSTUNE__TRAIN__EPOCHS", "2")
    monkeypatch.setenv("OPSTUNE__TRAIN__MAX_STEPS", "9")
    found = settings.load({"epochs": 5, "max_steps": None, "deploy": True, "mode": "full"})
    assert (found.train.epochs, found.train.max_steps) == (5, 9)


def test_a_wrong_value_of_the_form_is_named() -> None:
    with pytest.raises(ConfigError, match=r"form: train\.learning_rate"):
        settings.load({"learning_rate": -1})


def test_the_address_of_a_connection_shows_as_asterisks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "as_connection", lambda name: {"url": "http://me:hunter2@mlflow:5000"})
    found = settings.load({}, [settings.MLFLOW])
    assert found.tracking_uri == "http://me:hunter2@mlflow:5000"
    assert "hunter2" not in f"{found!r} {found.model_dump_json()}"
