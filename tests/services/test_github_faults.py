"""What a task log says when GitHub fails, and that nothing is lost by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FAULTS, Answer, Fault, FaultServer
from github_server import REPOSITORY, TOKEN, GitHub
from pull_history import history
from source_place import SourcePlace

from opstune.errors import AccessDenied, ConfigError, DataError, OpstuneError, ServiceDown, Throttled

#: Pull requests at first and in the end, and a fix among those that come later.
FIRST, ALL, LATE = 20, 60, 30


@pytest.fixture
def github() -> GitHub:
    return GitHub(history(FIRST))


@pytest.fixture
def server(github: GitHub) -> Iterator[FaultServer]:
    with FaultServer(github) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub, server: FaultServer) -> SourcePlace:
    """The first are in the store, the others wait."""
    place = SourcePlace(tmp_path, monkeypatch, "pull_request_reviews")
    place.options(repositories=[REPOSITORY])
    place.connect("opstune_github", server.url, TOKEN)
    assert place.pull().new == len(wanted(FIRST))
    github.pulls = {pull["number"]: pull for pull in history(ALL)}
    place.patient(timeout_seconds=0.3, longest_wait_seconds=1.0)
    return place


def wanted(count: int) -> list[str]:
    """Merged (no seventh), a fix or of an issue, and in a file that is no plain code."""
    numbers = [n for n in range(1, count + 1) if n % 7 and (n % 3 == 0 or n % 5 == 0) and n % 4 != 3]
    return sorted(f"{REPOSITORY}#{number}" for number in numbers)


def refusing(status: int, message: str, **headers: str) -> Fault:
    return Fault(Answer({"message": message}, status, {name.replace("_", "-"): text for name, text in headers.items()}))


TABLE = [
    ("401", FAULTS["401"], AccessDenied, r"GitHub refuses access \(HTTP 401\).*Correct the login, key"),
    ("a token repeated", refusing(401, f"bad {TOKEN}"), AccessDenied, r"bad \*\*\*"),
    (
        "403",
        refusing(403, "Resource not accessible by personal access token", X_RateLimit_Remaining="4999"),
        AccessDenied,
        r"refuses access \(HTTP 403\).*not accessible.*right to read",
    ),
    (
        "a primary limit",
        refusing(403, "API rate limit exceeded", X_RateLimit_Remaining="0", X_RateLimit_Reset="1"),
        Throttled,
        r"GitHub asks to slow down \(HTTP 403, 0 s\).*Nothing is lost",
    ),
    (
        "a secondary limit",
        refusing(403, "You have exceeded a secondary rate limit", Retry_After="3600"),
        Throttled,
        r"slow down \(HTTP 403, 3600 s\)",
    ),
    (
        "a secondary limit without a time",
        refusing(403, "You have exceeded a secondary rate limit"),
        Throttled,
        r"slow down \(HTTP 403, 60 s\)",
    ),
    ("404", FAULTS["404"], ConfigError, rf"no repository {REPOSITORY} that this token may read"),
    ("429", FAULTS["429"], Throttled, r"slow down \(HTTP 429, 0 s\)"),
    ("429 for an hour", FAULTS["429 for an hour"], Throttled, r"slow down \(HTTP 429, 3600 s\)"),
    ("422", refusing(422, "Validation Failed"), ConfigError, r"refuses the request \(HTTP 422\).*Correct the source"),
    ("500", FAULTS["500"], ServiceDown, r"GitHub has a fault of its own \(HTTP 500\).*goes on from here"),
    ("timeout", FAULTS["timeout"], ServiceDown, "GitHub does not answer in time.*Check that it runs"),
    ("half an answer", FAULTS["half an answer"], ServiceDown, "GitHub breaks off in the middle of an answer"),
    ("broken JSON", FAULTS["broken JSON"], ServiceDown, "GitHub answers with something that is not JSON"),
    ("wrong types", FAULTS["wrong types"], DataError, "in a form that opstune does not know: GitHub: items"),
    ("an empty answer", FAULTS["an empty answer"], ServiceDown, "not JSON: no body"),
    ("a page of a proxy", Fault(Answer(b"<html>sign in</html>")), ServiceDown, "not JSON: <html>sign in"),
]


@pytest.mark.parametrize("on", ["", f"/{LATE}/reviews"], ids=["at once", "in the middle"])
@pytest.mark.parametrize(("fault", "error", "says"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_fault_is_told_in_words_and_nothing_is_lost(
    place: SourcePlace, server: FaultServer, fault: Fault, error: type[OpstuneError], says: str, on: str
) -> None:
    before = place.watermark()
    with server.failing(fault, on=on), pytest.raises(error, match=says) as caught:
        place.pull()
    assert TOKEN not in str(caught.value)
    assert place.watermark() == before
    place.patient(timeout_seconds=5.0)
    missing = len(wanted(ALL)) - len(place.examples())
    report = place.pull()
    assert (report.new, report.quarantined) == (missing, 0)
    found = [f"{one.metadata['repository']}#{one.metadata['number']}" for one in place.examples()]
    assert sorted(found) == wanted(ALL)


@pytest.mark.parametrize("name", ["429", "500", "timeout", "half an answer", "broken JSON", "an empty answer"])
def test_a_fault_that_passes_is_asked_again_within_the_run(place: SourcePlace, server: FaultServer, name: str) -> None:
    with server.failing(FAULTS[name], after=1, times=1):
        assert place.pull().new == len(wanted(ALL)) - len(wanted(FIRST))


@pytest.mark.parametrize("name", ["500", "timeout", "half an answer"])
def test_a_diff_that_cannot_be_had_is_read_file_by_file(place: SourcePlace, server: FaultServer, name: str) -> None:
    with server.failing(FAULTS[name], on=f"/pulls/{LATE}", times=place.settings.patience.attempts):
        assert place.pull().new == len(wanted(ALL)) - len(wanted(FIRST))


def test_no_pull_requests_is_an_answer_that_moves_nothing(place: SourcePlace, github: GitHub) -> None:
    before = place.watermark()
    kept, github.pulls = github.pulls, {}
    assert place.pull().read == 0
    now = place.watermark()
    assert before and now and now.position == before.position
    github.pulls = kept
    assert place.pull().new == len(wanted(ALL)) - len(wanted(FIRST))


@pytest.mark.parametrize("name", ["a clock an hour ahead", "a clock an hour behind"])
def test_a_clock_that_is_off_is_told_and_loses_nothing(
    place: SourcePlace, server: FaultServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with server.failing(FAULTS[name]), caplog.at_level(logging.WARNING):
        assert place.pull().new == len(wanted(ALL)) - len(wanted(FIRST))
    assert f"the clock of GitHub is 60 minutes {name.split()[-1]}" in caplog.text


def test_a_check_says_whether_the_token_or_the_line_is_wrong(place: SourcePlace, server: FaultServer) -> None:
    with server.failing(FAULTS["401"]):
        refused = place.check()
    with server.failing(FAULTS["500"]):
        down = place.check()
    good = place.check()
    assert (refused.reachable, refused.authorised, "refuses access" in refused.problem) == (True, False, True)
    assert (down.reachable, down.authorised, "HTTP 500" in down.problem) == (False, None, True)
    assert (good.reachable, good.authorised, good.new) == (True, True, len(wanted(ALL)) - len(wanted(FIRST)))
