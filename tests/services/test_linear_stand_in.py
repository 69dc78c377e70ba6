"""Completed issues out of a stand-in for Linear that validates and counts every query."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer
from linear_issues import BEGIN, Told, comment, issues, stamp
from linear_server import KEY, MOST, REAL, SUBSET, Linear
from source_place import SourcePlace

from opstune.collect.issues.linear_cost import cost, document
from opstune.errors import Throttled

COUNT = 500


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> Path:
    """The hand-written subset; Linear's own where a test asks for both and this machine has it."""
    found = Path(getattr(request, "param", SUBSET))
    if not found.is_file():
        pytest.skip("Linear's own schema is not on this machine; the hand-written subset is tested")
    return found


both_schemas = pytest.mark.parametrize("schema", [SUBSET, REAL], ids=["subset", "linear's own schema"], indirect=True)


@pytest.fixture(scope="module")
def told() -> list[Told]:
    return issues(COUNT)


@pytest.fixture
def linear(schema: Path, told: list[Told]) -> Linear:
    return Linear(schema, [{**one.issue} for one in told])


@pytest.fixture
def server(linear: Linear) -> Iterator[FaultServer]:
    with FaultServer(linear) as server:
        yield server


@pytest.fixture
def place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> Callable[[str], SourcePlace]:
    def place_of(source: str) -> SourcePlace:
        place = SourcePlace(tmp_path, monkeypatch, source)
        place.connect("opstune_linear", server.url, KEY)
        return place

    return place_of


@pytest.fixture
def place(place_of: Callable[[str], SourcePlace]) -> SourcePlace:
    return place_of("linear_incidents")


def asked(linear: Linear, operation: str) -> list[dict[str, Any]]:
    return [variables for name, variables in linear.asked if name == operation]


@both_schemas
def test_all_issues_become_incidents_with_what_people_wrote_about_them(
    place: SourcePlace, linear: Linear, told: list[Told]
) -> None:
    report = place.pull()
    assert (report.new, report.quarantined, report.passed_over) == (COUNT, 0, 0)
    found = {one.metadata["issue"]: one for one in place.examples()}
    for one in told:
        example = found[one.issue["identifier"]]
        texts = {"root_cause": one.cause, "mitigation": one.fix}
        known = {name: text for name, text in texts.items() if text}
        assert example.answer == ({"severity": one.severity, **known} if one.severity else {})
        assert example.context.get("alert", "") == one.alert
        assert example.occurred_at == datetime.fromisoformat(one.issue["createdAt"])
    assert sum(not one.answer for one in found.values()) == sum(not one.severity for one in told) > 0
    assert found["OPS-49"].group_id == found["OPS-1"].group_id == "OPS-1"
    assert max(linear.costs) <= MOST and linear.throttled == 0


def test_the_same_issues_become_diagnoses(place_of: Callable[[str], SourcePlace], told: list[Told]) -> None:
    place = place_of("linear_diagnoses")
    assert place.pull().new == COUNT
    answers = {one.metadata["issue"]: one.answer for one in place.examples()}
    assert answers == {one.issue["identifier"]: {"root_cause": one.cause} if one.cause else {} for one in told}


def test_what_hangs_on_an_issue_is_fetched_beyond_its_first_page(place: SourcePlace, linear: Linear) -> None:
    place.pull()
    long = [one for one in linear.issues if len(one["comments"]) > 20]
    assert len(long) > 40 and len(asked(linear, "MoreComments")) == len(long)
    assert len(asked(linear, "MoreLabels")) == sum(len(one["labels"]) > 10 for one in linear.issues) > 0
    assert len(asked(linear, "MoreAttachments")) == sum(len(one["attachments"]) > 10 for one in linear.issues) > 0


def test_the_second_collection_brings_nothing_new_and_asks_for_one_page(place: SourcePlace, linear: Linear) -> None:
    place.pull()
    linear.asked.clear()
    report = place.pull()
    assert (report.read, report.new, report.updated) == (1, 0, 0)
    assert len(asked(linear, "Issues")) == 1


def test_an_issue_that_was_changed_or_reopened_and_closed_again_is_read_again(
    place: SourcePlace, linear: Linear
) -> None:
    place.pull()
    changed = linear.issues[12]
    changed["comments"] = [*changed["comments"], comment("Root cause: it was the cable", BEGIN + timedelta(days=40))]
    changed["updatedAt"] = stamp(BEGIN + timedelta(days=40))
    report = place.pull()
    assert (report.new, report.updated) == (0, 1)
    found = next(one for one in place.examples() if one.source_id == changed["id"])
    assert found.answer["root_cause"] == "it was the cable"


def test_an_issue_that_shows_late_is_found_within_the_overlap(place: SourcePlace, linear: Linear) -> None:
    late = linear.issues.pop(490)
    place.settings = place.settings.model_copy(update={"overlap_minutes": 600})
    place.pull()
    linear.issues.append(late)
    assert place.pull().new == 1


def test_an_issue_that_changes_while_others_are_read_takes_no_other_with_it(place: SourcePlace, linear: Linear) -> None:
    """Linear's cursors are issues: one that moves to the end would move the reader there too."""
    pages = 0

    def change_the_last_of_the_first_page(operation: str) -> None:
        nonlocal pages
        pages += operation == "Issues"
        if operation == "Issues" and pages == 2:
            ordered = sorted(linear.issues, key=lambda one: (one["updatedAt"], one["id"]))
            first = linear.asked[[name for name, _ in linear.asked].index("Issues")][1]["first"]
            ordered[first - 1]["updatedAt"] = stamp(BEGIN + timedelta(days=60))

    linear.before = change_the_last_of_the_first_page
    report = place.pull()
    assert pages > 10 and (report.new, report.unchanged) == (COUNT, 1)


def test_a_process_that_is_killed_goes_on_at_its_last_page(
    place: SourcePlace, linear: Linear, server: FaultServer
) -> None:
    shell = {
        **os.environ,
        "OPSTUNE_HOME": str(place.home),
        "OPSTUNE__CONNECTIONS__OPSTUNE_LINEAR__URL": server.url.replace("//", f"//:{KEY}@"),
        "OPSTUNE__COLLECT__DAYS_BACK": "4000",
        "OPSTUNE__COLLECT__OVERLAP_MINUTES": "0",
    }
    command = [sys.executable, "-m", "opstune.cli", "collect", place.source]
    with subprocess.Popen(command, env=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:

        def kill_at_the_tenth_page(operation: str) -> None:
            if len(asked(linear, "Issues")) == 10 and operation == "Issues":
                child.kill()

        linear.before = kill_at_the_tenth_page
        assert child.wait(timeout=120) == -signal.SIGKILL
    before, mark = len(place.examples()), place.watermark()
    assert 0 < before < COUNT and mark and mark.collected_at is None

    report = place.pull()
    assert (report.new, len(place.examples())) == (COUNT - before, COUNT)
    assert report.read < COUNT - before + 140
    again = asked(linear, "Issues")[10]["filter"]["updatedAt"]["gte"]
    assert datetime.fromisoformat(again) == datetime.fromisoformat(mark.position["highest"])


@pytest.mark.parametrize("says", [(400, "RATELIMITED"), (429, "RATELIMITED"), (200, "RATELIMITED")])
def test_throttling_is_waited_out_and_nothing_is_lost(
    place: SourcePlace, linear: Linear, says: tuple[int, str]
) -> None:
    """Others use the same key: the limit comes without a warning in the headers before."""
    linear.limit(window=0.2)
    linear.says_throttled = says
    times = 0

    def others_use_the_key(_operation: str) -> None:
        nonlocal times
        times += 1
        if times % 30 == 0:
            linear.left["requests"] = 0

    linear.before = others_use_the_key
    linear.announced = False
    assert place.pull().new == COUNT
    assert linear.throttled >= 2


@both_schemas
def test_limits_that_run_low_are_waited_for_before_they_are_reached(place: SourcePlace, linear: Linear) -> None:
    linear.limit(requests=20, complexity=60_000, window=0.3)
    assert place.pull().new == COUNT
    assert linear.throttled == 0


def test_a_pause_that_is_too_long_ends_the_run_in_words_and_the_next_goes_on(
    place: SourcePlace, linear: Linear
) -> None:
    linear.limit(requests=30)
    with pytest.raises(
        Throttled, match=r"limits of Linear are used up for 3[56]\d\d s more.*goes on from here"
    ) as caught:
        place.pull()
    assert caught.value.seconds and 3500 < caught.value.seconds < 3601 and linear.throttled == 0
    before = len(place.examples())
    linear.limit()
    assert 0 < before < COUNT and place.pull().new == COUNT - before


def test_a_query_that_linear_finds_too_complex_is_asked_again_with_smaller_pages(
    place: SourcePlace, linear: Linear
) -> None:
    linear.most = 3000
    assert place.pull().new == COUNT
    assert max(linear.costs) <= 3000
    assert {variables["first"] for variables in asked(linear, "Issues")} == {8}


@both_schemas
def test_the_cost_of_every_query_is_what_linear_counts(linear: Linear) -> None:
    from graphql import parse
    from linear_server import complexity

    for operation in ("Issues", "Newest", "MoreLabels", "MoreAttachments", "MoreComments", "MoreHistory"):
        counted = complexity(linear.schema, parse(document()), operation, {"first": 17})
        assert cost(operation, {"first": 17}) == counted


def test_an_oauth_token_goes_as_bearer_and_a_key_goes_bare(
    place: SourcePlace, linear: Linear, server: FaultServer
) -> None:
    place.connect("opstune_linear", server.url, "lin_oauth_t0ken")
    linear.authorization = "Bearer lin_oauth_t0ken"
    assert place.check().new == COUNT
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer lin_oauth_t0ken"}


@both_schemas
@pytest.mark.parametrize(
    ("options", "count"),
    [({"teams": ["DBA"]}, 250), ({"labels": ["sev3"]}, 25), ({"labels": []}, 500), ({"labels": ["no such"]}, 0)],
)
def test_labels_and_teams_narrow_the_issues_down(place: SourcePlace, options: dict[str, Any], count: int) -> None:
    place.options(**options)
    assert place.pull().new == count


def test_issues_that_are_not_completed_are_left_alone(place: SourcePlace, linear: Linear) -> None:
    for issue in linear.issues[:100]:
        issue["state"] = {"name": "Doing", "type": "started"}
    assert place.pull().new == COUNT - 100


def test_the_first_collection_goes_days_back_from_the_issue_that_was_completed_last(
    place: SourcePlace, linear: Linear
) -> None:
    place.settings = place.settings.model_copy(update={"days_back": 5})
    place.pull()
    newest = max(datetime.fromisoformat(one["completedAt"]) for one in linear.issues)
    oldest = min(one.occurred_at for one in place.examples())
    assert timedelta(days=4.9) < newest - oldest <= timedelta(days=5)
    assert asked(linear, "Issues")[0]["filter"]["updatedAt"]["gte"] == (newest - timedelta(days=5)).isoformat().replace(
        "+00:00", "Z"
    )


def test_one_issue_that_is_not_as_described_stops_no_other(place: SourcePlace, linear: Linear) -> None:
    linear.issues[3]["description"] = "\ud800 half a character"
    linear.issues[4]["createdAt"] = "yesterday"
    report = place.pull()
    assert (report.new, report.quarantined) == (COUNT - 1, 1)
    assert "createdAt" in place.refused()[0]
    linear.issues[4].update(createdAt=stamp(BEGIN), updatedAt=stamp(BEGIN + timedelta(days=50)))
    assert (place.pull().new, place.refused()) == (1, [])


def test_an_order_that_would_lose_issues_is_refused(place: SourcePlace, linear: Linear) -> None:
    fetch = linear._issues
    linear._issues = lambda info, **given: fetch(info, **{**given, "sort": []})[::-1]  # type: ignore[method-assign]
    from opstune.errors import DataError

    with pytest.raises(DataError, match="another order"):
        place.pull()
