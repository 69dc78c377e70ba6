"""docker-compose.yaml and Dockerfile agree with the rest, as far as that can be told without a Docker daemon."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from opstune.serve.deploy import CONNECTIONS
from opstune_airflow import catalog, settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
every_service = pytest.mark.parametrize("name", SERVICES)


@every_service
def test_a_service_waits_only_for_services_that_exist_and_can_say_they_are_healthy(name: str) -> None:
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]


@every_service
def test_a_service_says_whether_it_is_healthy(name: str) -> None:
    assert name == "init" or SERVICES[name]["healthcheck"]["test"]


@every_service
def test_a_service_mounts_only_volumes_and_configs_that_are_declared(name: str) -> None:
    assert {mount.split(":")[0] for mount in SERVICES[name].get("volumes", [])} <= set(COMPOSE["volumes"])
    assert {config["source"] for config in SERVICES[name].get("configs", [])} <= set(COMPOSE["configs"])


@every_service
def test_nothing_listens_beyond_this_machine(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_every_secret_comes_from_the_environment_and_stands_in_the_example() -> None:
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    required = set(re.findall(r"\$\{([A-Z_]+):\?\}", TEXT))
    assert required and required <= example
    for line in TEXT.splitlines():
        if re.search(r"(PASSWORD|SECRET|TOKEN|_KEY)\w*:\s*\S", line) and "_FILE" not in line and "ENABLE" not in line:
            assert "${" in line, line


def test_all_parts_of_airflow_share_one_signing_secret_and_one_database() -> None:
    parts = [service for service in SERVICES.values() if service.get("environment", {}).get("AIRFLOW__CORE__EXECUTOR")]
    assert len(parts) >= 8
    for key in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY"):
        assert len({part["environment"][key] for part in parts}) == 1


def test_every_queue_that_a_dag_names_has_a_worker_with_and_without_a_gpu() -> None:
    serving = {
        name: re.search(r"--queues (\S+)", service["command"])[1]  # type: ignore[index]
        for name, service in SERVICES.items()
        if "celery worker" in str(service.get("command"))
    }
    always = {queue for name, queue in serving.items() if not SERVICES[name].get("profiles")}
    assert {"default", catalog.GPU_QUEUE} <= always
    assert serving["worker-gpu"] == catalog.GPU_QUEUE
    assert SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


def test_what_a_retrain_promotes_answers_at_a_service_that_its_workers_are_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = SERVICES["worker"]["environment"]
    for key, value in environment.items():
        if key.startswith(("OPSTUNE__", "AIRFLOW_CONN_")):
            monkeypatch.setenv(key, value)
    place = settings.load({}).serve.deploy.to
    name = CONNECTIONS[place]
    assert place in SERVICES and name in settings.PLACES
    connection = settings.load({}, settings.PLACES).connection(name)
    assert connection is not None and urlsplit(connection.address).hostname == place
    published = SERVICES[place]["ports"][0].rpartition(":")[2]
    assert str(urlsplit(connection.address).port) == published


def test_the_image_is_the_airflow_that_the_requirements_pin() -> None:
    version = re.search(r"^apache-airflow\[[^]]*\]==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert version
    assert f"FROM apache/airflow:{version[1]}-python3.11" in (ROOT / "Dockerfile").read_text()
    assert COMPOSE["x-airflow"]["image"].endswith(f":{version[1]}")
