"""A real Alertmanager's words about current alerts, told to it by a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from alert_place import AlertPlace
from prometheus_server import alertmanager, prometheus, wait_until

from opstune.errors import ServiceDown
from opstune.examples import Example

RULE = {
    "alert": "QueueDeep",
    "expr": 'label_replace(vector(42.5), "queue", "mail", "", "")',
    "labels": {"severity": "page"},
    "annotations": {"summary": "{{ $labels.queue }} holds {{ $value }}"},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("servers")
    with alertmanager(folder / "am") as manager:
        group = {"name": "now", "interval": "1s", "rules": [RULE]}
        # It says what fires once a minute, and the first time it may not know Alertmanager yet.
        often = ["--rules.alert.resend-delay=1s"]
        address = manager.removeprefix("http://")
        with prometheus(folder / "prometheus", [group], alertmanager=address, flags=often) as url:
            wait_until(lambda: bool(current(manager)) and bool(recorded(url)))
            yield url, manager


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: tuple[str, str]) -> AlertPlace:
    place = AlertPlace(tmp_path, monkeypatch)
    place.connect("opstune_prometheus", servers[0])
    place.connect("opstune_alertmanager", servers[1])
    return place


def current(manager: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{manager}/api/v2/alerts").json())


def recorded(url: str) -> list[Any]:
    query = {"query": 'ALERTS{alertstate="firing"}'}
    return list(httpx.get(f"{url}/api/v1/query", params=query).json()["data"]["result"])


def say(manager: str, summary: str) -> None:
    """Tell Alertmanager of the same alert once more, with a label that was added on the way."""
    labels = {"alertname": "QueueDeep", "queue": "mail", "severity": "page", "cluster": "eu"}
    alert = {"labels": labels, "annotations": {"summary": summary}, "startsAt": datetime.now(UTC).isoformat()}
    httpx.post(f"{manager}/api/v2/alerts", json=[alert]).raise_for_status()


def one(place: AlertPlace) -> Example:
    (found,) = place.examples()
    return found


def test_what_prometheus_told_alertmanager_arrives_with_the_value(place: AlertPlace, servers: tuple[str, str]) -> None:
    (held,) = current(servers[1])
    assert held["annotations"] == {"summary": "mail holds 42.5"}
    place.pull()
    assert one(place).context["summary"] == "mail holds 42.5" and one(place).context["status"] == "firing"


def test_its_words_count_before_the_rules_and_stay_when_it_forgets_them(place: AlertPlace) -> None:
    with alertmanager(place.home.parent / "own") as manager:
        place.connect("opstune_alertmanager", manager)
        say(manager, "said by Alertmanager")
        place.pull()
        assert one(place).context["summary"] == "said by Alertmanager"
        say(manager, "said later")
        assert place.pull().updated == 0
    del place.connections["opstune_alertmanager"]
    assert place.pull().updated == 0 and one(place).context["summary"] == "said by Alertmanager"


def test_a_silenced_alert_is_suppressed(place: AlertPlace) -> None:
    with alertmanager(place.home.parent / "own") as manager:
        say(manager, "silenced")
        now = datetime.now(UTC)
        matcher = {"name": "alertname", "value": "QueueDeep", "isRegex": False, "isEqual": True}
        times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
        silence = {"matchers": [matcher], **times, "createdBy": "a test", "comment": "planned"}
        httpx.post(f"{manager}/api/v2/silences", json=silence).raise_for_status()
        wait_until(lambda: current(manager)[0]["status"]["state"] == "suppressed")
        place.connect("opstune_alertmanager", manager)
        place.pull()
    assert one(place).context["status"] == "suppressed"


def test_an_alertmanager_that_is_down_stops_the_collection_and_nothing_is_lost(
    place: AlertPlace, servers: tuple[str, str]
) -> None:
    place.connect("opstune_alertmanager", "http://127.0.0.1:1")
    with pytest.raises(ServiceDown, match="Alertmanager does not answer"):
        place.pull()
    assert not place.store.joinpath("watermarks", "alert_episodes.json").exists()
    place.connect("opstune_alertmanager", servers[1])
    assert place.pull().new == 1


def test_without_alertmanager_the_rules_own_words_arrive(place: AlertPlace, caplog: pytest.LogCaptureFixture) -> None:
    del place.connections["opstune_alertmanager"]
    with caplog.at_level("INFO"):
        place.pull()
    assert one(place).context["summary"] == "mail holds 42.5"
    assert "Alertmanager is not asked: there is no connection opstune_alertmanager" in caplog.text
