"""Deploying to Ollama: nothing twice, questioned before production sees it, put back where it answers wrongly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fault_server import FAULTS, Answer, Fault, FaultServer
from ollama_server import Made, shown_as
from ollama_server import Ollama as StandIn
from pydantic import SecretStr
from release_place import SETTINGS, release, write_gguf

from opstune.errors import AccessDenied, DeployError, DiskFull, IntegrityError, OpstuneError, ServiceDown
from opstune.http import within
from opstune.serve.deploy import Release, target_of
from opstune.serve.deploy.modelfile import read
from opstune.serve.deploy.ollama_api import Ollama, _Content
from opstune.settings import Connection

PROD, BEFORE = "opstune:prod", "opstune:previous"
PROXY = Fault(Answer(b"<html>Bad gateway</html>", 502))


@dataclass
class Place:
    """A stand-in behind a server that can fail, and two versions of a model."""

    ollama: StandIn
    server: FaultServer
    one: Release
    two: Release

    def deploy(self, version: Release, token: str = "") -> list[str]:
        url = self.server.url.replace("://", f"://:{token}@") if token else self.server.url
        connection = Connection(url=SecretStr(url))
        with target_of("ollama", version, SETTINGS, lambda name: connection) as target:
            return [*target.prepare(version), *target.switch(version)]

    def holds(self, version: Release, *names: str) -> None:
        """As after a deployment: the version's tag, and these names for it."""
        written = read(version.shipped / "Modelfile")
        shown = "\n".join(line for item in written.parameters.items() for line in shown_as(*item))
        made = Made(version.digest(), version.gguf.stat().st_size, written.template, written.system, shown)
        (self.ollama.blobs / made.blob).write_bytes(version.gguf.read_bytes())
        self.ollama.models.update(dict.fromkeys((version.name, *names), made))

    def asked(self) -> list[str]:
        """What was asked since the last time, the questions aside."""
        told = [f"{request.method} {request.path.split('sha256')[0]}" for request in self.server.requests]
        self.server.requests.clear()
        return [one for one in told if one != "POST /api/chat"]

    def standing(self) -> dict[str, str]:
        """Name → version, by the blob that it stands for."""
        versions = {version.digest(): version.version for version in (self.one, self.two)}
        return {name: versions[made.blob] for name, made in self.ollama.models.items()}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Release]:
    folder = tmp_path_factory.mktemp("versions")
    gguf = write_gguf(folder / "base.gguf")
    return release(gguf, folder, "1.0.0"), release(gguf, folder, "1.0.1")


@pytest.fixture
def place(tmp_path: Path, versions: tuple[Release, Release]) -> Iterator[Place]:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    ollama = StandIn(blobs)
    with FaultServer(ollama) as server:
        yield Place(ollama, server, *versions)


def test_a_version_is_uploaded_made_questioned_and_only_then_what_production_asks(place: Place) -> None:
    told = place.deploy(place.one)
    paths = [f"{request.method} {request.path.split('sha256')[0]}" for request in place.server.requests]
    assert paths.index("POST /api/blobs/") < paths.index("POST /api/create") < paths.index("POST /api/chat")
    assert paths.index("POST /api/chat") < paths.index("POST /api/copy")
    assert place.standing() == {"opstune:1.0.0": "1.0.0", PROD: "1.0.0"}
    assert [sentence for sentence in told if "5 of 5 questions as the tested file" in sentence] == [told[3], told[5]]


def test_the_same_version_again_uploads_and_makes_nothing_and_says_so(place: Place) -> None:
    place.holds(place.one, PROD)
    told = place.deploy(place.one)
    assert place.asked() == ["GET /api/tags", "POST /api/show", "GET /api/tags"]
    assert "nothing uploaded" in told[0] and "opstune:prod is opstune:1.0.0 already" in told


def test_an_interrupted_deployment_goes_on_from_the_uploaded_file(place: Place) -> None:
    with place.server.failing(FAULTS["timeout"], on="/api/create"), pytest.raises(ServiceDown):
        fast = SETTINGS.deploy.patience.model_copy(update={"timeout_seconds": 0.3})
        hurried = SETTINGS.model_copy(update={"deploy": SETTINGS.deploy.model_copy(update={"patience": fast})})
        connection = Connection(url=SecretStr(place.server.url))
        with target_of("ollama", place.one, hurried, lambda name: connection) as target:
            target.prepare(place.one)
    place.asked()
    assert "is there already" in place.deploy(place.one)[0]
    assert "POST /api/blobs/" not in place.asked()


def test_a_server_that_hangs_is_given_up_when_the_time_is_over_with_production_as_before(place: Place) -> None:
    place.holds(place.one, PROD)
    before, started = dict(place.ollama.models), time.monotonic()
    hangs = place.server.failing(FAULTS["timeout"], on="/api/create")
    with hangs, pytest.raises(ServiceDown, match=f"{PROD} was not touched"), within(5):
        place.deploy(place.two)
    assert time.monotonic() - started < 15  # patience alone has twice 60 s
    assert place.ollama.models == before
    with pytest.raises(ServiceDown, match="MB were uploaded when the time was over"), within(-1):
        list(_Content(place.one.gguf))


def test_an_upload_that_breaks_off_is_sent_again_whole(place: Place) -> None:
    with place.server.failing(PROXY, on="/api/blobs", after=1, times=1):
        place.deploy(place.one)
    sizes = [len(request.body) for request in place.server.requests if request.body[:4] == b"GGUF"]
    assert sizes == [place.one.gguf.stat().st_size] * 2


def test_the_next_version_keeps_the_one_before_and_going_back_is_one_copy_more(place: Place) -> None:
    place.holds(place.one, PROD)
    place.deploy(place.two)
    assert place.standing()[PROD] == "1.0.1" and place.standing()[BEFORE] == "1.0.0"
    place.asked()
    place.deploy(place.one)
    assert place.standing()[PROD] == "1.0.0" and place.standing()[BEFORE] == "1.0.1"
    copies = ["POST /api/copy"] * 2  # production is kept as previous, then it is the version's tag
    assert place.asked() == ["GET /api/tags", "POST /api/show", "GET /api/tags", *copies]


def _invalid(place: Place) -> None:
    place.ollama.says = lambda model, body: "I would restart it." if model == place.two.name else None


def _different(place: Place) -> None:
    place.ollama.says = lambda model, body: _other(body) if model == place.two.name else None


def _other(body: dict[str, Any]) -> str:
    """Valid under the schema, and other than what the weights say."""
    if "oneOf" in body["format"]:
        first = body["format"]["oneOf"][0]["properties"]
        filled = {name: value["enum"][0] for name, value in first["parameters"]["properties"].items()}
        return json.dumps({"function": first["function"]["const"], "parameters": filled})
    line = body["format"]["properties"]["message"]["enum"][0]
    return json.dumps({"message": line, "category": "data", "severity": "low", "confidence": "low"})


@pytest.mark.parametrize(("spoil", "told"), [(_invalid, "that is none"), (_different, "0 of 5 questions")])
def test_a_version_that_answers_other_than_tested_never_reaches_production(
    place: Place, spoil: Callable[[Place], None], told: str
) -> None:
    place.holds(place.one, PROD)
    before = dict(place.ollama.models)
    spoil(place)
    with pytest.raises(DeployError, match=told) as caught:
        place.deploy(place.two)
    assert place.ollama.models == before
    assert "opstune:prod was not touched" in str(caught.value)


def test_a_template_that_asks_otherwise_than_training_did_is_found(place: Place) -> None:
    """The weights answer valid JSON behind any template."""
    file = place.one.shipped / "Modelfile"
    right = file.read_text()
    start, end = right.index('TEMPLATE """'), right.index('"""\nSYSTEM')
    try:
        file.write_text(f'{right[:start]}TEMPLATE """{{{{ .Prompt }}}}{right[end:]}')
        with pytest.raises(DeployError, match="asks in another form"):
            place.deploy(place.one)
    finally:
        file.write_text(right)
    assert place.ollama.models == {}


@pytest.mark.parametrize("deployed", [[], [[PROD]], [[PROD], [BEFORE]]], ids=len)
def test_what_production_asked_is_put_back_when_it_fails_under_productions_name(
    place: Place, deployed: list[list[str]]
) -> None:
    for version, names in zip((place.one, place.two), deployed, strict=False):
        place.holds(version, *names)
    before = {name: version for name, version in place.standing().items() if name in (PROD, BEFORE)}
    place.ollama.says = lambda model, body: _other(body) if model == PROD else None
    with pytest.raises(DeployError, match="0 of 5 questions") as caught:
        place.deploy(place.two)
    now = {name: version for name, version in place.standing().items() if name == PROD}
    assert now == {name: version for name, version in before.items() if name == PROD}
    if BEFORE in before:
        assert place.standing()[BEFORE] == before[BEFORE]
    assert ("is opstune:1.0.0 again" if deployed else "was removed again") in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"blob": "0" * 64}, "other weights"),
        ({"template": "{{ .Prompt }}"}, "other template"),
        ({"system": "Obey."}, "other system message"),
        ({"parameters": "temperature 1"}, "other parameters"),
    ],
)
def test_a_versions_tag_that_somebody_changed_is_refused_and_named(
    place: Place, changed: dict[str, str], told: str
) -> None:
    place.holds(place.one)
    place.ollama.models[place.one.name] = replace(place.ollama.models[place.one.name], **changed)
    with pytest.raises(IntegrityError, match=told):
        place.deploy(place.one)


WORDS = Fault(Answer({"error": "llama runner process has terminated: unknown model architecture"}, 500))
FULL = Fault(Answer({"error": "write blobs: no space left on device"}, 500))
OVER = Fault(Answer(b'{"status":"parsing GGUF"}\n{"error":"tensor of unknown type"}\n'))
CUT = Fault(Answer(b'{"status":"parsing GGUF"}\n{"status":"writing manifest"}\n'))


@pytest.mark.parametrize(
    ("fault", "on", "kind", "told"),
    [
        (FAULTS["401"], "/api/tags", AccessDenied, "refuses access"),
        (PROXY, "/api/tags", ServiceDown, "fault of its own"),
        (FAULTS["half an answer"], "/api/tags", ServiceDown, "breaks off"),
        (FAULTS["broken JSON"], "/api/tags", ServiceDown, "not JSON"),
        (FULL, "/api/blobs", DiskFull, "disk is full"),
        (OVER, "/api/create", DeployError, "tensor of unknown type"),
        (CUT, "/api/create", ServiceDown, "broke off in the middle"),
        (WORDS, "/api/chat", DeployError, "unknown model architecture"),
        (PROXY, "/api/chat", ServiceDown, "fault of its own"),
    ],
)
def test_an_outage_is_told_from_a_refused_model_and_production_stays(
    place: Place, fault: Fault, on: str, kind: type[OpstuneError], told: str
) -> None:
    place.holds(place.one, PROD)
    after = 1 if on == "/api/blobs" else 0  # the first only asks whether it is there
    with place.server.failing(fault, on=on, after=after), pytest.raises(OpstuneError, match=told) as caught:
        place.deploy(place.two, token="s3cret")
    assert type(caught.value) is kind
    assert place.standing()[PROD] == "1.0.0" and BEFORE not in place.ollama.models
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_the_registered_one_is_refused_by_ollama_itself(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF other")
    with (
        Ollama(Connection(url=SecretStr(place.server.url)), SETTINGS.deploy.patience) as api,
        pytest.raises(DeployError, match="digest mismatch"),
    ):
        api.upload(tmp_path / "other.gguf", place.one.digest())
