"""Episodes of a real Prometheus joined with the Linear issues that close them, through the kind ``linear`` itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alert_place import AlertPlace
from alert_truth import DAY, Truth, series
from fault_server import FAULTS, FaultServer
from prometheus_server import backfill, prometheus

from opstune.errors import ServiceDown

pytest.importorskip("graphql", reason="pip install graphql-core")
from linear_issues import comment, issues, stamp
from linear_server import KEY, SUBSET, Linear

MINUTE = 60_000
BEGAN = int(time.time() * 1000) - 2 * DAY
LABELS = {"alertname": "PodStuck", "namespace": "shop", "severity": "page"}
OPENED = datetime.fromtimestamp(BEGAN / 1000, UTC) + timedelta(minutes=4)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    moments = [BEGAN + minute * MINUTE for minute in range(21)]
    backfill(folder, series([Truth({**LABELS, "pod": pod}, moments) for pod in ("cart-1", "cart-2", "cart-3")]))
    with prometheus(folder) as url:
        yield url


def issue(number: int, pod: str, closing: str) -> dict[str, Any]:
    """Opened four minutes after the alert began and closed the next day."""
    closed = OPENED + timedelta(days=1)
    labels = json.dumps({"labels": {**LABELS, "pod": pod}})
    return {
        **issues(2)[1].issue,
        "id": f"00000000-0000-4000-8000-00000000000{number}",
        "identifier": f"OPS-{number}",
        "title": f"{pod} is stuck",
        "description": f"From Alertmanager:\n\n```json\n{labels}\n```\n",
        "createdAt": stamp(OPENED),
        "completedAt": stamp(closed),
        "updatedAt": stamp(closed),
        "comments": [comment(closing, closed)],
        "attachments": [],
        "parent": None,
    }


@pytest.fixture
def server() -> Iterator[FaultServer]:
    helped = 'restart_pod(namespace="shop", pod="cart-1") helped.'
    in_words = "## Resolution steps\n1. Called the data centre\n2. Swapped the disk\n"
    with FaultServer(Linear(SUBSET, [issue(1, "cart-1", helped), issue(2, "cart-2", in_words)])) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str, server: FaultServer) -> AlertPlace:
    place = AlertPlace(tmp_path, monkeypatch)
    place.connect("opstune_prometheus", recorded)
    place.connect("opstune_linear", server.url, KEY)
    return place


def test_the_closing_issue_answers_an_episode_where_it_names_a_function(place: AlertPlace) -> None:
    place.pull()
    found = {one.context["labels"]["pod"]: one for one in place.examples()}
    answered, in_words, unknown = (found[pod] for pod in ("cart-1", "cart-2", "cart-3"))
    assert answered.answer == {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-1"}}
    assert (answered.outcome, answered.group_id) == ("success", "OPS-1")
    assert (in_words.answer, in_words.group_id) == ({}, "OPS-2")
    assert in_words.notes == "Called the data centre; Swapped the disk"
    assert (unknown.answer, unknown.notes) == ({}, "") and unknown.group_id.startswith("PodStuck/")


def test_a_linear_that_is_down_takes_no_answer_back(place: AlertPlace, server: FaultServer) -> None:
    place.pull()
    before = place.examples()
    with server.failing(FAULTS["500"]), pytest.raises(ServiceDown, match="Linear"):
        place.pull()
    assert place.examples() == before and place.pull().updated == 0
