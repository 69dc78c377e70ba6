"""However often and wherever collections break off, the outcome is that of a single one: episodes and their answers.

A stand-in for Prometheus answers here, so that many histories can be gone through; it gives a range's beginning as
Prometheus 2 does or leaves it out as Prometheus 3 does.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from alert_place import AlertPlace
from fault_server import FAULTS, Answer, FaultServer, Request

from opstune.errors import ServiceDown
from opstune.examples import Example

MINUTE = 60_000
DAY = 24 * 60 * MINUTE


class Recorded:
    """Three alerts on a few pods over some days, one sample a minute, and what was done about them."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.includes_beginning = seed % 2 == 0
        self.end = int(time.time() * 1000) // MINUTE * MINUTE - 5 * MINUTE
        self.begin = self.now = self.end - 5 * DAY
        self.series = {(alert, pod): self._moments() for alert in ("Down", "Slow", "Full") for pod in "abc"}
        self.runs = [self._run(number) for number in range(100)]

    def __call__(self, request: Request) -> Answer:
        if request.path == "/api/v1/rules":
            return _success({"groups": []})
        query = request.query["query"]
        if query == "time()":
            return _success({"resultType": "scalar", "result": [self.now / 1000, "0"]})
        found = re.fullmatch(r".*\[(\d+)ms\]", query)
        assert found
        end = round(float(request.query["time"]) * 1000)
        begin = end - int(found[1]) + (0 if self.includes_beginning else 1)
        result = [
            {
                "metric": {
                    "__name__": "ALERTS",
                    "alertname": alert,
                    "alertstate": "firing",
                    "pod": pod,
                    "severity": "x",
                },
                "values": [[moment / 1000, "1"] for moment in moments if begin <= moment <= min(end, self.now)],
            }
            for (alert, pod), moments in self.series.items()
        ]
        return _success({"resultType": "matrix", "result": [one for one in result if one["values"]]})

    def _moments(self) -> list[int]:
        moments: list[int] = []
        at = self.begin + self.rng.randrange(DAY) // MINUTE * MINUTE
        while at < self.end:
            lasting = self.rng.choice((1, 5, 40, 400, 3000))
            moments += [at + minute * MINUTE for minute in range(self.rng.randrange(lasting) + 1)]
            at = moments[-1] + self.rng.choice((3, 20, 50, 900)) * MINUTE
        return [moment for moment in moments if moment < self.end]

    def _run(self, number: int) -> dict[str, Any]:
        """Some name the pod, some only the alert; some failed, some found nothing to do."""
        moment = self.rng.randrange(self.begin, self.end)
        function = self.rng.choice(("restart_pod", "restart_pod", "none"))
        pod = self.rng.choice("abc")
        parameters = {"namespace": "shop", "pod": pod} if function == "restart_pod" else {}
        return {
            "id": f"R-{number:03d}",
            "finished_at": moment,
            "event": {
                "alertname": self.rng.choice(("Down", "Slow", "Full")),
                "labels": self.rng.choice(({"pod": pod}, {})),
                "incident": f"I-{number % 40}",
            },
            "call": {"name": function, "arguments": parameters},
            "result": {"status": self.rng.choice(("ok", "ok", "error"))},
        }


def _success(data: object) -> Answer:
    return Answer({"status": "success", "data": data})


@pytest.mark.parametrize("seed", range(6))
def test_many_collections_that_break_off_give_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    recorded = Recorded(seed)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "agent_runs.jsonl").write_text("".join(f"{json.dumps(run)}\n" for run in recorded.runs))
    with FaultServer(recorded) as server:
        recorded.now = recorded.end
        single = _place(tmp_path / "single", monkeypatch, server, tmp_path / "runs", hours=24)
        single.pull()
        many = _place(tmp_path / "many", monkeypatch, server, tmp_path / "runs", hours=recorded.rng.choice((5, 9, 24)))
        recorded.now = recorded.begin + DAY // 2
        broken = 0
        while recorded.now < recorded.end:
            recorded.now = min(recorded.now + recorded.rng.randrange(DAY // 8, 2 * DAY), recorded.end)
            after = recorded.rng.randrange(2, 30)
            with server.failing(FAULTS["500"], on="query", after=after):
                try:
                    many.pull()
                except ServiceDown:
                    broken += 1
        assert broken > 0
        many.pull()
        assert many.pull().updated == 0
    assert _told(many) == _told(single)
    answered = [example for example in many.examples() if example.outcome == "success"]
    assert len(answered) > 10


def _place(folder: Path, monkeypatch: pytest.MonkeyPatch, server: FaultServer, runs: Path, hours: int) -> AlertPlace:
    folder.mkdir()
    place = AlertPlace(folder, monkeypatch)
    place.options(query_chunk_hours=hours, again_days=1, slack_minutes=25)
    place.connect("opstune_prometheus", server.url)
    place.connect("opstune_files", str(runs))
    return place


def _told(place: AlertPlace) -> dict[str, Example]:
    return {example.source_id: example for example in place.examples()}
