"""The Airflow of our own: whose configuration it reads, what it keeps to itself."""

from __future__ import annotations

import configparser
import socket
from pathlib import Path

import pytest

from opstune_airflow import local_config
from opstune_airflow.standalone import Standalone


def test_a_port_that_somebody_listens_on_is_not_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert local_config.free_port(port) > port


def test_the_shells_airflow_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "/production")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW_CONN_OPSTUNE_DATABASE", "sqlite:///history.db")
    environment = Standalone(tmp_path).child_environment()
    assert environment["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert "production" not in " ".join(environment.values())
    assert environment["AIRFLOW_CONN_OPSTUNE_DATABASE"] == "sqlite:///history.db"


def test_keys_and_password_are_for_the_owner_only_and_stay_the_same(tmp_path: Path) -> None:
    airflow = Standalone(tmp_path)
    local_config.write(airflow.folder, 8080)
    files = [airflow.folder / "airflow.cfg", airflow.password_file]
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600", "0o600"]
    password, before = airflow.password_file.read_text(), read(files[0])
    local_config.write(airflow.folder, 9090)
    after = read(files[0])
    assert airflow.password_file.read_text() == password
    assert (after["core"]["fernet_key"], after["api_auth"]["jwt_secret"]) == (
        before["core"]["fernet_key"],
        before["api_auth"]["jwt_secret"],
    )
    assert (after["api"]["host"], after["api"]["port"]) == ("127.0.0.1", "9090")


def test_what_is_down_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    airflow = Standalone(tmp_path)
    airflow.stop()
    assert set(airflow.status().values()) == {"down"}


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return parser
