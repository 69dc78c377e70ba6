"""What a task log says when Linear fails, and that nothing is lost by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FAULTS, Answer, Fault, FaultServer
from linear_issues import Told, issues
from linear_server import KEY, SUBSET, Linear
from source_place import SourcePlace

from opstune.errors import AccessDenied, ConfigError, DataError, OpstuneError, ServiceDown, Throttled


def graphql(status: int, code: str, message: str) -> Fault:
    body = {"errors": [{"message": message, "extensions": {"code": code}}]}
    return Fault(Answer(body, status))


@pytest.fixture(scope="module")
def told() -> list[Told]:
    """Each fits into one answer, so that the second request is the second page."""
    found = issues(40)
    for one in found:
        one.issue.update(comments=one.issue["comments"][-3:], attachments=[])
    return found


@pytest.fixture
def linear() -> Linear:
    return Linear(SUBSET, [])


@pytest.fixture
def server(linear: Linear) -> Iterator[FaultServer]:
    with FaultServer(linear) as server:
        yield server


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linear: Linear, server: FaultServer, told: list[Told]
) -> SourcePlace:
    """Twenty issues are in the store, twenty more wait."""
    place = SourcePlace(tmp_path, monkeypatch, "linear_incidents")
    place.options(page=8)
    place.connect("opstune_linear", server.url, KEY)
    linear.issues = [one.issue for one in told[:20]]
    assert place.pull().new == 20
    linear.issues = [one.issue for one in told]
    place.patient(timeout_seconds=0.3)
    return place


TABLE = [
    ("401", FAULTS["401"], AccessDenied, r"Linear refuses access \(HTTP 401\).*Correct the login, key"),
    (
        "401 in GraphQL",
        graphql(401, "AUTHENTICATION_ERROR", f"bad key {KEY}"),
        AccessDenied,
        r"Linear refuses access: bad key \*\*\*.*Correct the key",
    ),
    (
        "a refusal beside 200",
        graphql(200, "AUTHENTICATION_ERROR", "no entry"),
        AccessDenied,
        "Linear refuses access: no entry",
    ),
    ("403", FAULTS["403"], AccessDenied, r"refuses access \(HTTP 403\).*right to read"),
    ("403 in GraphQL", graphql(200, "FORBIDDEN", "not yours"), AccessDenied, "refuses access: not yours"),
    ("404", FAULTS["404"], ConfigError, r"Linear has nothing there \(HTTP 404\).*Correct the connection's address"),
    ("429", FAULTS["429"], Throttled, r"Linear asks to slow down \(HTTP 429, 0 s\).*Nothing is lost"),
    ("429 for an hour", FAULTS["429 for an hour"], Throttled, r"slow down \(HTTP 429, 3600 s\)"),
    ("RATELIMITED", graphql(400, "RATELIMITED", "too fast"), Throttled, r"slow down \(HTTP 400, 0 s\)"),
    ("RATELIMITED beside 200", graphql(200, "RATELIMITED", "too fast"), Throttled, r"slow down \(HTTP 200, 0 s\)"),
    (
        "a wrong query",
        graphql(400, "GRAPHQL_VALIDATION_FAILED", "no field x"),
        ConfigError,
        "refuses the query: no field",
    ),
    ("a wrong filter", graphql(200, "INVALID_INPUT", "no team x"), ConfigError, r"no team x.*Correct the source file"),
    ("too complex even alone", graphql(400, "INPUT_ERROR", "Query too complex"), ConfigError, r"Lower read\.page"),
    ("500", FAULTS["500"], ServiceDown, r"Linear has a fault of its own \(HTTP 500\).*goes on from here"),
    (
        "a fault beside 200",
        graphql(200, "INTERNAL_SERVER_ERROR", "oh no"),
        ServiceDown,
        "Linear has a fault of its own: oh no.*goes on from here",
    ),
    ("timeout", FAULTS["timeout"], ServiceDown, "Linear does not answer in time.*Check that it runs"),
    ("half an answer", FAULTS["half an answer"], ServiceDown, "Linear breaks off in the middle of an answer"),
    ("broken JSON", FAULTS["broken JSON"], ServiceDown, "Linear answers with something that is not JSON"),
    ("wrong types", FAULTS["wrong types"], ServiceDown, "Linear answers without data"),
    (
        "a page of wrong types",
        Fault(Answer({"data": {"issues": 5}})),
        DataError,
        "in a form that opstune does not know",
    ),
    ("an empty answer", FAULTS["an empty answer"], ServiceDown, "not JSON: no body"),
    ("an empty object", Fault(Answer({})), ServiceDown, "Linear answers without data"),
]


@pytest.mark.parametrize("after", [0, 1], ids=["at once", "after a page"])
@pytest.mark.parametrize(("fault", "error", "says"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_fault_is_told_in_words_and_nothing_is_lost(
    place: SourcePlace,
    server: FaultServer,
    told: list[Told],
    fault: Fault,
    error: type[OpstuneError],
    says: str,
    after: int,
) -> None:
    before = place.watermark()
    with server.failing(fault, after=after), pytest.raises(error, match=says) as caught:
        place.pull()
    assert KEY not in str(caught.value)
    assert (place.watermark() == before) == (after == 0)
    place.patient(timeout_seconds=5.0)
    missing = 40 - len(place.examples())
    report = place.pull()
    assert (report.new, report.quarantined) == (missing, 0)
    assert sorted(one.source_id for one in place.examples()) == sorted(one.issue["id"] for one in told)


@pytest.mark.parametrize("name", ["429", "500", "timeout", "half an answer", "broken JSON", "an empty answer"])
def test_a_fault_that_passes_is_asked_again_within_the_run(place: SourcePlace, server: FaultServer, name: str) -> None:
    with server.failing(FAULTS[name], after=1, times=1):
        assert place.pull().new == 20


def test_no_issues_is_an_answer_that_moves_nothing(place: SourcePlace, linear: Linear, told: list[Told]) -> None:
    before = place.watermark()
    linear.issues = []
    assert place.pull().read == 0
    now = place.watermark()
    assert before and now and now.position == before.position
    linear.issues = [one.issue for one in told]
    assert place.pull().new == 20


@pytest.mark.parametrize("name", ["a clock an hour ahead", "a clock an hour behind"])
def test_a_clock_that_is_off_is_told_and_delays_nothing(
    place: SourcePlace, linear: Linear, server: FaultServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Linear tells by its own clock when limits are reset: by ours that would be an hour away, or long ago."""
    linear.limit(requests=2, window=0.3)
    linear.ahead = -3600 if name.endswith("behind") else 3600
    with server.failing(FAULTS[name]), caplog.at_level(logging.WARNING):
        assert place.pull().new == 20
    assert f"the clock of Linear is 60 minutes {name.split()[-1]}" in caplog.text


def test_a_check_says_whether_the_key_or_the_line_is_wrong(place: SourcePlace, server: FaultServer) -> None:
    with server.failing(FAULTS["401"]):
        refused = place.check()
    with server.failing(FAULTS["500"]):
        down = place.check()
    good = place.check()
    assert (refused.reachable, refused.authorised, "refuses access" in refused.problem) == (True, False, True)
    assert (down.reachable, down.authorised, "HTTP 500" in down.problem) == (False, None, True)
    assert (good.reachable, good.authorised, good.new) == (True, True, 20)
