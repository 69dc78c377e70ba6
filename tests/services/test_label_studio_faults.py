"""Label Studio failing in every way that a server can: what the task log says, and that nothing is lost or doubled."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from annotation_place import RESTART, Place, alert
from fault_server import FAULTS, Answer, Fault, FaultServer, Request
from label_studio import USER, People, label_studio

from opstune import pipeline
from opstune.errors import AccessDenied, ConfigError, DataError, OpstuneError, ServiceDown, Throttled

pytestmark = pytest.mark.timeout(900)

AGAIN = "the next run (goes on|asks again)"


@dataclass(frozen=True)
class Case:
    """A fault, the error that it ends with, and what its sentence says."""

    fault: str
    error: type[OpstuneError]
    says: str


CASES = [
    Case(
        "401", AccessDenied, r"Label Studio refuses access \(HTTP 401\).*who are you.*Correct the login, key or token"
    ),
    Case(
        "403", AccessDenied, r"Label Studio refuses access \(HTTP 403\).*not for you.*Correct the login, key or token"
    ),
    Case("404", ConfigError, r"Label Studio has nothing there \(HTTP 404\).*Correct the connection's address"),
    Case("429", Throttled, rf"asks to slow down \(HTTP 429, 0 s\).*{AGAIN}"),
    Case("429 for an hour", Throttled, rf"asks to slow down \(HTTP 429, 3600 s\).*{AGAIN}"),
    Case("500", ServiceDown, rf"has a fault of its own \(HTTP 500\).*a bug.*{AGAIN}"),
    Case("timeout", ServiceDown, rf"does not answer in time.*{AGAIN}"),
    Case("half an answer", ServiceDown, rf"breaks off in the middle of an answer.*{AGAIN}"),
    Case("broken JSON", ServiceDown, rf"something that is not JSON.*{AGAIN}"),
    Case("an empty answer", ServiceDown, rf"something that is not JSON.*{AGAIN}"),
    Case("wrong types", DataError, r"a form that opstune does not know.*Check that the address is Label Studio's own"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with label_studio(tmp_path_factory.mktemp("label-studio") / "data") as found:
        yield found


@pytest.fixture(scope="module")
def people(url: str) -> Iterator[People]:
    found = People(url)
    yield found
    found.close()


@pytest.fixture
def front(url: str) -> Iterator[FaultServer]:
    """A server that stands before the real one and answers as it does, until it is told to fail."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:

        def answer(request: Request) -> Answer:
            headers = httpx.Headers(request.headers)
            kept = {key: headers[key] for key in ("content-type", "authorization") if key in headers}
            response = client.request(
                request.method, request.path, params=request.query, content=request.body, headers=kept
            )
            return Answer(response.content, response.status_code, {"Content-Type": response.headers["content-type"]})

        with FaultServer(answer) as server:
            yield server


@pytest.fixture
def place(tmp_path: Path, front: FaultServer, people: People, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, front.url, monkeypatch, people)
    made.store.upsert([alert(1), alert(2)])
    return made


def timeout_of(fault: Fault) -> float:
    return 1.0 if fault.hang else 60.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_a_push_that_fails_says_why_and_the_next_one_asks_everybody_once(
    case: Case, place: Place, front: FaultServer
) -> None:
    fault = FAULTS[case.fault]
    with front.failing(fault), pytest.raises(case.error, match=f"(?is){case.says}"):
        place.push(timeout=timeout_of(fault))
    assert place.push().new == 2
    assert set(place.tasks()) == {"1", "2"}
    place.store.upsert([alert(3)])
    with front.failing(fault, on="/api/tasks"), pytest.raises(case.error, match=f"(?is){case.says}"):
        place.push(timeout=timeout_of(fault))
    assert place.push().new == 1
    assert set(place.tasks()) == {"1", "2", "3"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_a_pull_that_fails_says_why_and_the_next_one_brings_everything(
    case: Case, place: Place, front: FaultServer
) -> None:
    fault = FAULTS[case.fault]
    place.push()
    place.annotate([1, 2], RESTART, USER)
    for path in ("", "/api/tasks", "/api/users"):
        with front.failing(fault, on=path), pytest.raises(case.error, match=f"(?is){case.says}"):
            place.pull(timeout=timeout_of(fault))
        assert not any(example.human_validated for example in place.read().values())
    assert place.pull().answered == 2
    assert all(example.human_validated for example in place.read().values())


@pytest.mark.parametrize("fault", ["500", "half an answer", "broken JSON", "timeout"])
def test_an_import_whose_answer_was_lost_is_not_repeated_blindly(fault: str, place: Place, front: FaultServer) -> None:
    """Of three requests the second fails; whether the server obeyed it or not, each example has one task in the end."""
    place.store.upsert(alert(number) for number in range(3, 250))
    with front.failing(FAULTS[fault], on="/import", after=1, times=1), pytest.raises(ServiceDown):
        place.push(timeout=20 if fault == "timeout" else 60)
    assert sum("/import" in request.path for request in front.requests) == 2
    assert 100 <= len(place.tasks()) < 249
    place.push()
    assert set(place.tasks()) == {str(number) for number in range(1, 250)}


def test_a_list_that_is_shorter_than_it_says_imports_nothing_twice(place: Place, front: FaultServer) -> None:
    place.push()
    short = Fault(Answer({"tasks": [], "total": 2, "total_annotations": 0, "total_predictions": 0}))
    with front.failing(short, on="/api/tasks"), pytest.raises(ServiceDown, match=r"lists 0 tasks.*there are 2"):
        place.push()
    assert len(place.tasks()) == 2


def test_a_server_that_is_down_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = Place(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        place.store.upsert([alert(1)])
        for step in (place.push, place.pull):
            with pytest.raises(ServiceDown, match=rf"(?i)Label Studio does not answer.*Check that it runs.*{AGAIN}"):
                step()


@pytest.mark.parametrize("fault", ["a clock an hour ahead", "a clock an hour behind"])
def test_a_clock_that_is_off_is_told_and_changes_nothing(
    fault: str, place: Place, front: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    with front.failing(FAULTS[fault]), caplog.at_level(logging.WARNING, "opstune"):
        assert place.push().new == 2
        place.annotate([1], RESTART, USER)
        assert place.pull().answered == 1
    assert any(re.search("the clock of Label Studio is (59|60) minutes", line) for line in caplog.messages)


def test_a_token_that_is_wrong_is_refused_and_never_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "f" * 40
    monkeypatch.setattr(place, "_connection", lambda: {"url": place.url.replace("//", f"//:{wrong}@")})
    with caplog.at_level("DEBUG"), pytest.raises(AccessDenied, match="refuses access") as told:
        place.push()
    assert wrong not in f"{told.value} {caplog.text}"


def test_a_connection_without_a_token_says_where_it_belongs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_connection", lambda: {"url": place.url})
    with pytest.raises(ConfigError, match=r"has no token.*into the connection's password"):
        place.push()


def test_without_the_connection_annotation_is_off_and_says_so(place: Place) -> None:
    from opstune import settings

    for step in (pipeline.push_annotation, pipeline.pull_annotation):
        assert step("remediation", settings.load()).off == pipeline.NO_LABEL_STUDIO
