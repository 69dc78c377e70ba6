"""The fault table of Prometheus and Alertmanager: what a person is told, and that nothing is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alert_place import SOURCE, AlertPlace
from alert_truth import DAY, Truth, groups, history, series
from fault_server import FAULTS, Answer, Fault, FaultServer, Request, forwarding
from prometheus_server import backfill, prometheus

from opstune.collect.watermark import path_of
from opstune.errors import AccessDenied, ConfigError, DataError, OpstuneError, ServiceDown, Throttled
from opstune.settings import Patience


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    now = int(time.time() * 1000)
    return history(seed=23, count=60, begin=now - 9 * DAY, end=now - DAY // 12)


@pytest.fixture(scope="module")
def recorded(truths: list[Truth], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    backfill(folder, series(truths))
    with prometheus(folder, groups()) as url:
        yield url


@pytest.fixture
def server(recorded: str) -> Iterator[FaultServer]:
    """The real Prometheus, and an Alertmanager without alerts, behind something that can fail."""
    pass_on = forwarding(recorded)
    nothing = Answer([])
    with FaultServer(lambda asked: nothing if asked.path == "/am/api/v2/alerts" else pass_on(asked)) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> AlertPlace:
    place = AlertPlace(tmp_path, monkeypatch)
    place.settings = place.settings.model_copy(update={"days_back": 12})
    place.connect("opstune_prometheus", server.url)
    place.connect("opstune_alertmanager", f"{server.url}/am")
    return place


def success(data: object, **more: object) -> Answer:
    return Answer({"status": "success", "data": data, **more})


BAD: dict[str, Fault] = {
    **FAULTS,
    "samples of the wrong type": Fault(success({"resultType": "matrix", "result": [{"metric": {}, "values": [5]}]})),
    "another kind of result": Fault(success({"resultType": "vector", "result": []})),
    "an error with a good status": Fault(Answer({"status": "error", "error": "out of memory"})),
    "an answer in part": Fault(success({"resultType": "matrix", "result": []}, warnings=["store-2 does not answer"])),
    "a query that is refused": Fault(Answer({"status": "error", "error": "parse error at char 7"}, 400)),
}
TABLE: list[tuple[str, type[OpstuneError], str]] = [
    ("401", AccessDenied, r"refuses access \(HTTP 401\): .*who are you.*Correct the login, key or token"),
    ("403", AccessDenied, r"refuses access \(HTTP 403\): .*not for you.*right to read"),
    ("404", ConfigError, r"has nothing there \(HTTP 404\).*Correct the connection's address"),
    ("429", Throttled, r"asks to slow down \(HTTP 429, 0 s\).*Nothing is lost"),
    ("429 for an hour", Throttled, r"asks to slow down \(HTTP 429, 3600 s\).*Nothing is lost"),
    ("500", ServiceDown, r"has a fault of its own \(HTTP 500\): .*a bug.*the next run goes on from here"),
    ("timeout", ServiceDown, r"does not answer in time.*the next run goes on from here"),
    ("half an answer", ServiceDown, r"breaks off in the middle of an answer"),
    ("broken JSON", ServiceDown, r"answers with something that is not JSON"),
    ("wrong types", DataError, r"answers in a form that opstune does not know.*Check its version and address"),
    ("an empty answer", ServiceDown, r"answers with something that is not JSON: no body"),
]
OF_PROMETHEUS: list[tuple[str, type[OpstuneError], str]] = [
    ("samples of the wrong type", DataError, r"answers in a form that opstune does not know: .*values"),
    ("another kind of result", DataError, r"answers in a form that opstune does not know: .*'matrix'"),
    ("an error with a good status", DataError, r"answers in a form that opstune does not know: .*'success'"),
    ("an answer in part", ServiceDown, r"answers in part only: store-2 does not answer"),
    ("a query that is refused", ConfigError, r"refuses the request \(HTTP 400\): .*char 7.*Correct the source file"),
]
#: Where it fails: the name of the system, a part of the path, and how many requests go well before.
PLACES = {
    "at once": ("Prometheus", "/api/v1/query", 0),
    "in the middle of history": ("Prometheus", "/api/v1/query", 8),
    "at the rules": ("Prometheus", "/api/v1/rules", 0),
    "at Alertmanager": ("Alertmanager", "/api/v2/alerts", 0),
}
ROWS = [
    *((where, *row) for where in PLACES for row in TABLE),
    *(("in the middle of history", *row) for row in OF_PROMETHEUS),
]


@pytest.mark.parametrize(("where", "fault", "error", "told"), ROWS)
def test_a_fault_is_told_in_words_and_nothing_is_lost_or_doubled(
    place: AlertPlace,
    server: FaultServer,
    truths: list[Truth],
    where: str,
    fault: str,
    error: type[OpstuneError],
    told: str,
) -> None:
    name, path, after = PLACES[where]
    patience = place.settings.patience
    if fault == "timeout":
        short = Patience(attempts=2, backoff_seconds=0, timeout_seconds=0.3)
        place.settings = place.settings.model_copy(update={"patience": short})
    with server.failing(BAD[fault], on=path, after=after):
        with pytest.raises(error, match=f"^{name} {told}"):
            place.pull()
        stored = len(place.examples())
        assert (stored > 0) == path_of(place.store, SOURCE).exists() == (after > 0)
    place.settings = place.settings.model_copy(update={"patience": patience})
    assert place.pull().new == len(truths) - stored
    assert place.found() == known(truths)


@pytest.mark.parametrize(("fault", "error", "told"), [row for row in TABLE if row[0] != "timeout"])
def test_a_fault_after_good_collections_moves_no_watermark(
    place: AlertPlace,
    server: FaultServer,
    truths: list[Truth],
    fault: str,
    error: type[OpstuneError],
    told: str,
) -> None:
    place.pull()
    before = path_of(place.store, SOURCE).read_text()
    with server.failing(BAD[fault], on="/api/v1/query", after=1):
        with pytest.raises(error, match=told):
            place.pull()
        assert path_of(place.store, SOURCE).read_text() == before
        assert place.check().problem and place.check().authorised in (None, False)
    report = place.pull()
    assert (report.new, report.updated, place.found()) == (0, 0, known(truths))


@pytest.mark.parametrize("fault", ["429", "500", "half an answer", "broken JSON", "an empty answer"])
def test_what_is_over_at_the_second_attempt_is_only_a_line_in_the_log(
    place: AlertPlace, server: FaultServer, truths: list[Truth], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    with server.failing(FAULTS[fault], on="/api/v1/query", after=4, times=1):
        place.pull()
    assert place.found() == known(truths)
    assert "asks again in 0 s (2 of 2)" in caplog.text and caplog.text.count("Prometheus") == 1


@pytest.mark.parametrize("direction", ["ahead", "behind"])
def test_a_clock_that_is_an_hour_off_is_told_and_nothing_is_lost(
    place: AlertPlace, server: FaultServer, truths: list[Truth], caplog: pytest.LogCaptureFixture, direction: str
) -> None:
    """Not only the header: samples carry the server's own time, and so does what it calls now."""
    hour = 3600 if direction == "ahead" else -3600
    real = server.answer

    def off(request: Request) -> Answer:
        if request.query.get("query") == "time()":
            now = time.time() + hour
            return success({"resultType": "scalar", "result": [now, str(now)]})
        return real(request)

    server.answer = off
    with server.failing(FAULTS[f"a clock an hour {direction}"]):
        place.pull()
    assert f"the clock of Prometheus is 60 minutes {direction}" in caplog.text
    server.answer = real
    report = place.pull()
    assert place.found() == known(truths) and len(place.examples()) == len(truths)
    assert report.new <= len(truths) / 10


def test_an_empty_result_of_a_later_collection_takes_nothing_back(
    place: AlertPlace, server: FaultServer, truths: list[Truth]
) -> None:
    place.pull()
    empty = Fault(success({"resultType": "matrix", "result": []}))
    with server.failing(empty, on="/api/v1/query", after=1):
        place.pull()
    assert place.found() == known(truths)
    report = place.pull()
    assert (report.new, report.updated, place.found()) == (0, 0, known(truths))


def known(truths: list[Truth]) -> list[tuple[tuple[tuple[str, str], ...], str, str]]:
    return sorted(truth.known_as for truth in truths)
