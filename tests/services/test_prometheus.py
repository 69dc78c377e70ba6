"""Alert episodes out of a real Prometheus with a backfilled history whose truth is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from alert_place import AlertPlace
from alert_truth import DAY, Truth, groups, history, series, stamp
from fault_server import FAULTS, Answer, FaultServer, Request, forwarding
from prometheus_server import backfill, prometheus, wait_until

from opstune.errors import ServiceDown

EPISODES = 2000


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    now = int(time.time() * 1000)
    return history(seed=7, count=EPISODES, begin=now - 32 * DAY, end=now - DAY // 12)


@pytest.fixture(scope="module")
def recorded(truths: list[Truth], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    backfill(folder, series(truths))
    with prometheus(folder, groups()) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str) -> AlertPlace:
    place = AlertPlace(tmp_path, monkeypatch)
    place.connect("opstune_prometheus", recorded)
    return place


def known(truths: list[Truth]) -> list[tuple[tuple[tuple[str, str], ...], str, str]]:
    return sorted(truth.known_as for truth in truths)


@pytest.mark.parametrize("hours", [5, 24, 24 * 45])
def test_two_thousand_episodes_are_all_found_with_their_exact_start_and_end(
    place: AlertPlace, truths: list[Truth], recorded: str, hours: int
) -> None:
    place.options(query_chunk_hours=hours)
    with FaultServer(forwarding(recorded)) as front:
        place.connect("opstune_prometheus", front.url)
        began = time.perf_counter()
        report = place.pull()
        seconds = time.perf_counter() - began
        print(f"{EPISODES} episodes, {hours} h a query: {len(front.requests)} requests, {seconds:.2f} s")
        assert len(front.requests) <= 40 * 24 / hours + 6
    assert (report.new, report.quarantined, report.passed_over) == (EPISODES, 0, 0)
    assert place.found() == known(truths)


def test_the_history_holds_what_is_hard(truths: list[Truth]) -> None:
    assert any(truth.moments[0] % DAY == 0 for truth in truths) and any(
        truth.moments[-1] % DAY == 0 for truth in truths
    )
    assert any(truth.moments[0] // DAY != truth.moments[-1] // DAY for truth in truths)
    assert any(truth.moments[-1] - truth.moments[0] > DAY for truth in truths)
    ends = {(tuple(truth.labels.items()), truth.moments[-1]) for truth in truths}
    back = [truth for truth in truths if (tuple(truth.labels.items()), truth.moments[0] - 45_000) in ends]
    assert len(back) > 20


def test_the_second_collection_brings_nothing_new(place: AlertPlace) -> None:
    first = place.pull()
    second = place.pull()
    assert (first.new, second.new, second.updated) == (EPISODES, 0, 0)
    assert 0 < second.read < EPISODES / 2
    assert place.check().new == place.check().updated == 0


def test_later_episodes_are_found_by_later_collections(place: AlertPlace, truths: list[Truth], recorded: str) -> None:
    """The server's own clock is told to stand some days back, as on the days when the first runs were made."""
    now = time.time()
    with FaultServer(forwarding(recorded)) as front:
        place.connect("opstune_prometheus", front.url)
        real = front.answer
        for days in (9.3, 8.1, 2.05, 0.0):

            def at_that_time(request: Request, then: float = now - days * 86400) -> Answer:
                if request.query.get("query") == "time()":
                    data = {"resultType": "scalar", "result": [then, str(then)]}
                    return Answer({"status": "success", "data": data})
                return real(request)

            front.answer = at_that_time
            place.pull()
    assert place.found() == known(truths)


@pytest.mark.parametrize("after", [3, 9, 30, 39])
def test_a_collection_that_breaks_off_loses_nothing_and_doubles_nothing(
    place: AlertPlace, truths: list[Truth], recorded: str, after: int
) -> None:
    with FaultServer(forwarding(recorded)) as front:
        place.connect("opstune_prometheus", front.url)
        with front.failing(FAULTS["500"], on="query", after=after), pytest.raises(ServiceDown):
            place.pull()
        stored = len(place.examples())
        report = place.pull()
    assert place.found() == known(truths)
    assert report.new == EPISODES - stored
    assert after < 20 or (stored > 100 and report.unchanged < stored)


_CHILD = """
import sys
sys.path[:0] = {paths!r}
from alert_place import AlertPlace
from pathlib import Path
import pytest
with pytest.MonkeyPatch.context() as patch:
    place = AlertPlace(Path({folder!r}), patch)
    place.connect("opstune_prometheus", {url!r})
    place.pull()
"""


def test_a_killed_process_loses_nothing_and_doubles_nothing(
    tmp_path: Path, place: AlertPlace, truths: list[Truth], recorded: str
) -> None:
    """The process is killed by the server that it asks, in the middle of its history."""
    children: list[subprocess.Popen[bytes]] = []
    with FaultServer(forwarding(recorded)) as front:
        real = front.answer

        def deadly(request: Request) -> Answer:
            if len(front.requests) == 28:
                os.kill(children[0].pid, signal.SIGKILL)
            return real(request)

        front.answer = deadly
        other = tmp_path / "other"
        other.mkdir()
        code = _CHILD.format(paths=[str(Path(__file__).parent)], folder=str(other), url=front.url)
        children.append(subprocess.Popen([sys.executable, "-c", code]))
        assert children[0].wait(120) == -signal.SIGKILL
    place.home, place.store = other / "state", other / "state" / "examples"
    stored = len(place.examples())
    report = place.pull()
    assert 100 < stored < EPISODES and report.new == EPISODES - stored
    assert place.found() == known(truths)


def test_an_answer_without_any_alert_does_not_move_the_beginning(
    place: AlertPlace, truths: list[Truth], recorded: str
) -> None:
    with FaultServer(forwarding(recorded)) as front:
        place.connect("opstune_prometheus", front.url)
        empty = Answer({"status": "success", "data": {"resultType": "matrix", "result": []}})
        real = front.answer
        front.answer = lambda request: empty if "ALERTS" in request.query.get("query", "") else real(request)
        assert place.pull().read == 0
        front.answer = real
        place.pull()
    assert place.found() == known(truths)


def test_an_episode_that_began_before_the_first_collection_reaches_is_left_out(
    place: AlertPlace, truths: list[Truth]
) -> None:
    place.settings = place.settings.model_copy(update={"days_back": 11})
    floor = datetime.now(UTC) - timedelta(days=11)
    report = place.pull()
    expected = [truth for truth in truths if truth.moments[0] / 1000 >= floor.timestamp()]
    assert place.found() == known(expected) and report.passed_over > 0


def test_a_server_that_bears_few_samples_is_asked_for_shorter_stretches(tmp_path: Path, place: AlertPlace) -> None:
    now = int(time.time() * 1000)
    truths = history(seed=3, count=60, begin=now - 4 * DAY, end=now - DAY // 12)
    backfill(tmp_path / "small", series(truths))
    with (
        prometheus(tmp_path / "small", groups(), flags=["--query.max-samples=500"]) as url,
        FaultServer(forwarding(url)) as front,
    ):
        place.connect("opstune_prometheus", front.url)
        place.pull()
        assert len(front.requests) > 45
    assert place.found() == known(truths)


def test_an_alert_that_fires_now_has_no_end_until_it_is_over(tmp_path: Path, place: AlertPlace) -> None:
    fires = {
        "alert": "FiresNow",
        "expr": 'label_replace(vector(42.5), "pod", "pod-a", "", "")',
        "labels": {"severity": "page"},
        "annotations": {"summary": "{{ $labels.pod }} stands at {{ $value }}"},
    }
    group = {"name": "now", "interval": "1s", "rules": [fires, {**fires, "alert": "OnlyPending", "for": "1h"}]}
    with prometheus(tmp_path / "live", [group], flags=["--web.enable-lifecycle"]) as url, httpx.Client() as client:
        wait_until(lambda: {"firing", "pending"} <= set(samples(url)))
        place.options(evaluation_seconds=1)
        place.connect("opstune_prometheus", url)
        place.pull()
        (firing,) = place.examples()
        assert firing.context["alert"] == "FiresNow" and "ends_at" not in firing.metadata
        assert firing.context["summary"] == "pod-a stands at 42.5"
        assert firing.metadata["starts_at"] == stamp(samples(url)["firing"][0])

        (tmp_path / "live" / "rules.yml").write_text("groups: []")
        client.post(f"{url}/-/reload").raise_for_status()
        wait_until(lambda: bool(place.pull()) and "ends_at" in place.examples()[0].metadata)
        (over,) = place.examples()
        assert over.id == firing.id and over.metadata["ends_at"] == stamp(samples(url)["firing"][-1])
        assert over.context == firing.context, "what was said while it fired stays"


@pytest.mark.parametrize(("silence", "episodes"), [(0, 2), (5, 1)])
def test_a_restart_of_the_server_ends_no_episode_where_the_source_file_says_so(
    tmp_path: Path, place: AlertPlace, silence: int, episodes: int
) -> None:
    """A server that was started again writes no ALERTS in its first evaluations, and none while it was down."""
    group = {"name": "now", "interval": "1s", "rules": [{"alert": "FiresNow", "expr": "vector(1)"}]}
    place.options(silence_minutes=silence, evaluation_seconds=1)
    seen = 0
    for _ in range(2):
        with prometheus(tmp_path / "live", [group]) as url:
            wait_until(lambda url=url, seen=seen: len(samples(url).get("firing", [])) > seen)
            seen = len(samples(url)["firing"])
            place.connect("opstune_prometheus", url)
            place.pull()
    assert len(place.examples()) == episodes


def samples(url: str) -> dict[str, list[int]]:
    """Alert state → the moments at which there is a sample of ``ALERTS``, asked in the plainest way."""
    with httpx.Client() as client:
        found = client.get(f"{url}/api/v1/query", params={"query": "ALERTS[1h]"}).json()["data"]["result"]
    return {one["metric"]["alertstate"]: [round(at * 1000) for at, _ in one["values"]] for one in found}
