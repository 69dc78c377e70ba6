"""vLLM and llama.cpp's server, looked at and questioned: healthy, the right model, the answers that were tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, MODEL, ChatServer
from fault_server import FAULTS, Answer, Fault, FaultServer, Request
from pydantic import SecretStr
from release_place import SETTINGS, release, write_gguf

from opstune.engines.prompts import chat
from opstune.errors import AccessDenied, ConfigError, DeployError, OpstuneError, ServiceDown
from opstune.serve import engine
from opstune.serve.deploy import Release, target_of
from opstune.serve.deploy.smoke import Smoke
from opstune.settings import Connection

FORMS = {"vllm": "json_schema", "llama-cpp": "json_object"}


@dataclass
class Place:
    """A server of one kind in front of a version's answers. ``names`` are those that it answers to."""

    kind: str
    version: Release
    answers: dict[str, str]
    names: list[str] = field(default_factory=lambda: [MODEL])
    health: Answer = field(default_factory=lambda: Answer({"status": "ok"}))

    def __post_init__(self) -> None:
        self.chats = ChatServer(lambda asked, schema: self.answers.get(asked), FORMS[self.kind])
        self.server = FaultServer(self)

    def __call__(self, request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/health":
                return self.health
            case "GET", "/v1/models":
                return Answer({"object": "list", "data": [{"id": name, "object": "model"} for name in self.names]})
        return self.chats(request)

    def prepare(self) -> list[str]:
        connection = Connection(url=SecretStr(self.server.url.replace("://", f"://:{KEY}@")))
        with target_of(self.kind, self.version, SETTINGS, lambda name: connection) as target:
            return [*target.prepare(self.version), *target.switch(self.version)]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("versions")
    return release(write_gguf(folder / "base.gguf"), folder, MODEL.partition(":")[2])


@pytest.fixture(scope="module")
def answers(version: Release) -> dict[str, str]:
    """What the weights answer, by the question."""
    cases = Smoke(version, SETTINGS).cases
    said = engine.load(version.gguf, SETTINGS).answer(cases, constrained=True)
    return {chat(case)[-1]["content"]: answer.text for case, answer in zip(cases, said, strict=True)}


@pytest.fixture
def place(request: pytest.FixtureRequest, version: Release, answers: dict[str, str]) -> Iterator[Place]:
    made = Place(getattr(request, "param", "vllm"), version, dict(answers))
    with made.server:
        yield made


@pytest.mark.parametrize("place", ["vllm", "llama-cpp"], indirect=True)
def test_a_server_with_the_version_is_healthy_named_and_answers_as_tested(place: Place) -> None:
    told = place.prepare()
    assert told == [f"{place.server.url} is healthy and answers to {MODEL}", told[1]]
    assert told[1].startswith(f"{MODEL} answers 5 of 5 questions as the tested file does")
    assert {body["model"] for body in place.chats.bodies} == {MODEL}


def _spoilt(place: Place) -> None:
    place.answers = dict.fromkeys(place.answers, '{"function":"restart_pod"')


def _other_model(place: Place) -> None:
    place.names = ["opstune:1.0.0", "opstune-base"]


def _loading(place: Place) -> None:
    place.health = Answer({"error": {"code": 503, "message": "Loading model"}}, 503)


@pytest.mark.parametrize(
    ("spoil", "kind", "told"),
    [
        (_spoilt, DeployError, "an answer to a remediation question that is none"),
        (_other_model, DeployError, r"answers to opstune:1\.0\.0, opstune-base, not to opstune:1\.2\.3.*Start one"),
        (_loading, ServiceDown, "Loading model"),
    ],
)
def test_a_server_that_is_not_ready_for_the_version_is_told(
    place: Place, spoil: Callable[[Place], None], kind: type[OpstuneError], told: str
) -> None:
    spoil(place)
    with pytest.raises(OpstuneError, match=told) as caught:
        place.prepare()
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("fault", "on", "kind"),
    [
        (FAULTS["401"], "/v1/models", AccessDenied),
        (FAULTS["half an answer"], "/v1/models", ServiceDown),
        (FAULTS["500"], "/v1/chat", ServiceDown),
        (Fault(Answer({"error": {"message": "schema too large"}}, 400)), "/v1/chat", DeployError),
    ],
)
def test_an_outage_is_told_from_a_refusal(place: Place, fault: Fault, on: str, kind: type[OpstuneError]) -> None:
    with place.server.failing(fault, on=on), pytest.raises(OpstuneError) as caught:
        place.prepare()
    assert type(caught.value) is kind and KEY not in str(caught.value)


@pytest.mark.parametrize(("kind", "begins"), [("vllm", "vllm serve"), ("llama-cpp", "llama-server --model")])
def test_without_a_connection_the_command_that_starts_a_server_is_told(
    version: Release, kind: str, begins: str
) -> None:
    def unknown(name: str) -> Any:
        return None

    with pytest.raises(ConfigError, match=begins), target_of(kind, version, SETTINGS, unknown):
        pass


def test_the_local_place_loads_the_versions_own_file(version: Release, tmp_path: Path) -> None:
    def unknown(name: str) -> Any:
        raise AssertionError(f"nobody is asked for {name}")

    with target_of("local", version, SETTINGS, unknown) as target:
        assert target.prepare(version) == [f"{MODEL} answers in this process"]
        assert target.switch(version) == []
