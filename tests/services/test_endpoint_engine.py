"""A model behind any OpenAI-compatible server: what is asked, what counts as an answer, and what as a fault."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, MODEL, ChatServer, fault
from fault_server import FAULTS, Answer, Fault, FaultServer, Request
from pydantic import SecretStr

from opstune.engines.base import Case
from opstune.engines.endpoint import EndpointEngine
from opstune.engines.prompts import chat
from opstune.errors import AccessDenied, ConfigError, EvaluationError, OpstuneError, ServiceDown, Throttled
from opstune.evaluate.evaluate import measure
from opstune.evaluate.predict import predict
from opstune.examples import Example
from opstune.settings import Connection, EndpointSettings, EvaluateSettings, Patience
from opstune.skills import get
from opstune.skills.base import target

PATIENCE = Patience(timeout_seconds=20.0, attempts=2, backoff_seconds=0, longest_wait_seconds=0)
SHORT = PATIENCE.model_copy(update={"timeout_seconds": 1.5})
RIGHT = {"severity": "SEV-1", "root_cause": "disk was full"}

Json = dict[str, Any]


def case(number: int) -> Case:
    return Case("triage", {"title": f"incident {number}"})


def example(number: int) -> Example:
    return Example(
        id=f"triage-{number:03}",
        skill="triage",
        source="test",
        source_id=str(number),
        group_id=str(number),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        context={"title": f"incident {number}"},
        answer=RIGHT,
    )


def engine_of(server: FaultServer, key: str = KEY, model: str = MODEL, **asked: Any) -> EndpointEngine:
    connection = Connection(url=SecretStr(server.url.replace("//", f"//:{key}@")))
    settings = EndpointSettings(**{"parallel": 3, "patience": PATIENCE, **asked})
    return EndpointEngine(model, connection, settings, max_new_tokens=50)


def right(question: str, schema: Json | None) -> str:
    return target(RIGHT)


@pytest.fixture
def chats() -> ChatServer:
    return ChatServer(right)


@pytest.fixture
def server(chats: ChatServer) -> Iterator[FaultServer]:
    with FaultServer(chats) as running:
        yield running


def test_a_case_is_asked_as_production_asks_it(server: FaultServer, chats: ChatServer) -> None:
    (answer,) = engine_of(server).answer([case(1)], constrained=True)
    body = chats.bodies[-1]
    assert body["messages"] == chat(case(1))
    schema = get("triage").schema(case(1).context)
    assert body["response_format"]["json_schema"] == {"name": "triage", "strict": True, "schema": schema}
    assert (body["temperature"], body["max_tokens"]) == (0, 50)
    assert (answer.text, answer.tokens) == (target(RIGHT), 12)
    assert answer.parsed and answer.parsed["root_cause"] == "disk was full"
    assert answer.seconds is not None and answer.seconds > 0


def test_a_server_that_wants_the_schema_its_own_way_gets_it_so() -> None:
    chats = ChatServer(right, form="json_object")
    with FaultServer(chats) as server:
        engine_of(server, schema_form="json_object").answer([case(1)], constrained=True)
    assert chats.bodies[-1]["response_format"]["schema"] == get("triage").schema({})


def test_without_a_constraint_no_schema_is_sent(server: FaultServer, chats: ChatServer) -> None:
    engine_of(server).answer([case(1)], constrained=False)
    assert "response_format" not in chats.bodies[-1]


def test_answers_come_in_the_order_of_the_cases_from_so_many_requests_at_once(server: FaultServer) -> None:
    together = threading.Barrier(3, timeout=20)

    def say(question: str, schema: Json | None) -> str:
        if schema is not None:
            together.wait()
        return question

    chats = ChatServer(say)
    server.answer = chats
    told: list[tuple[int, int]] = []
    answers = engine_of(server).answer(
        [case(n) for n in range(12)], constrained=True, on_progress=lambda done, total: told.append((done, total))
    )
    assert [answer.text.split()[-1] for answer in answers] == [str(n) for n in range(12)]
    assert chats.most == 3
    assert told == [(n, 12) for n in range(1, 13)]


@pytest.mark.parametrize(
    "said", ["", None, "I am sorry", '{"severity": "SEV-9"}', '{"severity"', '{"severity": "SEV-1", "x": "\ud800"}']
)
def test_a_bad_answer_is_a_wrong_answer(server: FaultServer, said: str | None) -> None:
    server.answer = ChatServer(lambda question, schema: said)
    (answer,) = engine_of(server).answer([case(1)], constrained=True)
    assert answer.parsed is None
    answer.text.encode()


@pytest.mark.parametrize(
    "refusal",
    [
        fault(400, "This model's maximum context length is 1024 tokens", None),
        fault(400, "too long", "context_length_exceeded"),
        Answer({"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}, 400),
    ],
)
def test_a_prompt_that_does_not_fit_is_left_unanswered_and_the_others_are_not(
    server: FaultServer, chats: ChatServer, refusal: Answer
) -> None:
    server.answer = lambda request: refusal if b"incident 1" in request.body else chats(request)
    first, second = engine_of(server).answer([case(1), case(2)], constrained=True)
    assert (first.text, first.parsed, first.seconds) == ("", None, None)
    assert second.parsed is not None


def test_a_case_that_no_answer_fits_is_not_asked(server: FaultServer, chats: ChatServer) -> None:
    (answer,) = engine_of(server).answer([Case("log_error", {"log": "\n"})], constrained=True)
    assert (answer.text, answer.parsed) == ("", None)
    assert all("response_format" not in body for body in chats.bodies)


@pytest.mark.parametrize(
    ("fails", "error", "says"),
    [
        (FAULTS["401"], AccessDenied, "refuses access"),
        (FAULTS["429"], Throttled, "slow down"),
        (FAULTS["429 for an hour"], Throttled, "3600 s"),
        (FAULTS["500"], ServiceDown, "fault of its own"),
        (FAULTS["timeout"], ServiceDown, "in time"),
        (FAULTS["half an answer"], ServiceDown, "breaks off"),
        (FAULTS["broken JSON"], ServiceDown, "no completion"),
        (FAULTS["an empty answer"], ServiceDown, "no completion"),
        (FAULTS["wrong types"], ServiceDown, "no completion"),
        (Fault(Answer({"choices": []})), ServiceDown, "no completion"),
        (Fault(fault(404, "model not found")), ConfigError, "knows no model"),
        (Fault(fault(400, "failed to parse grammar")), EvaluationError, "refuses a question: .*grammar"),
        (Fault(fault(500, "1 validation error: response_format")), EvaluationError, "refuses a question: .*format"),
    ],
)
def test_a_fault_half_way_is_told_and_never_a_wrong_answer(
    server: FaultServer, fails: Fault, error: type[OpstuneError], says: str, tmp_path: Path
) -> None:
    """What was answered before stays, and an evaluation goes on from there when the server is back."""
    engine = engine_of(server, patience=SHORT if fails.hang else PATIENCE)
    examples = [example(number) for number in range(60)]
    assert engine.traits.at_once == 24
    settings, kept = EvaluateSettings(free_decoding_sample=0), tmp_path / "kept.jsonl"
    with server.failing(fails, after=30), pytest.raises(error, match=says) as told:
        predict("challenger", engine, examples, "dataset", settings, kept)
    assert KEY not in str(told.value)
    before = len(server.requests)
    predicted = predict("challenger", engine, examples, "dataset", settings, kept)
    assert len(server.requests) - before == 36
    measured = measure("dataset", examples, {"challenger": predicted}).roles["challenger"]
    assert measured.metrics["all"]["correct"].value == 1.0
    assert measured.latency and measured.latency.n == 60
    assert measured.text and measured.text.perplexity is None
    assert measured.resources.disk_bytes is None


def test_an_outage_that_patience_outlasts_costs_nothing_but_time(server: FaultServer) -> None:
    engine = engine_of(server, parallel=1)
    with server.failing(FAULTS["500"], after=2, times=1):
        answers = engine.answer([case(n) for n in range(3)], constrained=True)
    assert all(answer.parsed for answer in answers)


def test_no_further_case_is_asked_after_a_fault(server: FaultServer) -> None:
    engine = engine_of(server, parallel=1)
    with server.failing(FAULTS["401"], after=3), pytest.raises(AccessDenied):
        engine.answer([case(n) for n in range(50)], constrained=True)
    assert len(server.requests) <= 6


def test_the_seconds_are_those_of_the_request_that_succeeded(server: FaultServer) -> None:
    """The time until the first attempt was given up is the outage's, not the model's."""
    engine = engine_of(server, patience=SHORT)
    engine.answer([case(0)], constrained=True)
    with server.failing(FAULTS["timeout"], times=1):
        (answer,) = engine.answer([case(1)], constrained=True)
    assert answer.seconds is not None and answer.seconds < SHORT.timeout_seconds


Change = Callable[[FaultServer], EndpointEngine]


@pytest.mark.parametrize(
    "other",
    [lambda server: engine_of(server, model="opstune:2"), lambda server: engine_of(server, schema_form="json_object")],
)
def test_another_name_or_form_is_another_evaluation(server: FaultServer, other: Change) -> None:
    ours, theirs = engine_of(server), other(server)
    assert (ours.name, ours.traits) != (theirs.name, theirs.traits)
    assert KEY not in ours.name


def test_the_request_is_json_in_utf8(server: FaultServer) -> None:
    engine_of(server).answer([Case("triage", {"title": "e\u0301te\u0301"})], constrained=True)
    request: Request = server.requests[-1]
    assert "été" in json.loads(request.body)["messages"][-1]["content"]
