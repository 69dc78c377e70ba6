"""The stand-in and the page about it are held against others: the official client, curl, and each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import needs
import ollama
import ollama_conversation
import pytest
from fault_server import FaultServer
from ollama_server import Ollama as StandIn
from pydantic import SecretStr
from release_place import SETTINGS, release, write_gguf

from opstune.engines.prompts import chat
from opstune.serve.deploy import Release, modelfile, target_of
from opstune.serve.deploy.smoke import Smoke
from opstune.settings import Connection
from opstune.skills import get

PAGE = Path(__file__).parents[2] / "docs" / "ollama.md"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Release]:
    folder = tmp_path_factory.mktemp("versions")
    gguf = write_gguf(folder / "base.gguf")
    one, two = (replace(release(gguf, folder, number), skills=("log_error",)) for number in ("1.0.0", "1.0.1"))
    return one, two


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    with FaultServer(StandIn(tmp_path)) as running:
        yield running


def test_the_page_is_what_is_said(tmp_path: Path) -> None:
    written = ollama_conversation.written(ollama_conversation.deployments(tmp_path))
    assert written == PAGE.read_text(), "python tests/services/ollama_conversation.py > docs/ollama.md"


def test_the_pages_script_asks_a_server_the_same(versions: tuple[Release, Release], server: FaultServer) -> None:
    needs.program("curl", "apt-get install curl")
    page = PAGE.read_text()
    script = "".join(re.findall(r"^```sh\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL))
    one, two = versions
    places = {"OLLAMA": server.url, "GGUF": str(one.gguf), "NEXT": str(two.gguf), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(["bash", "-eu"], input=script, env={**os.environ, **places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = re.findall(r"^### .* → (\d{3})$", page, flags=re.MULTILINE)
    assert re.findall(r"^(\d{3})$", done.stdout, flags=re.MULTILINE) == wanted
    assert len(wanted) > 20


def test_the_official_client_can_do_what_opstune_does_and_the_outcome_is_the_same(
    versions: tuple[Release, Release], server: FaultServer
) -> None:
    version, _ = versions
    client = ollama.Client(host=server.url, trust_env=False)
    written = modelfile.read(version.shipped / "Modelfile")
    digest = client.create_blob(version.gguf)
    assert digest == f"sha256:{version.digest()}"
    statuses = client.create(
        "theirs:1.0.0",
        files={"model.gguf": digest},
        template=written.template,
        system=written.system,
        parameters=written.parameters,
        stream=True,
    )
    assert [told.status for told in statuses][-1] == "success"
    client.copy("theirs:1.0.0", "theirs:prod")
    connection = Connection(url=SecretStr(server.url))
    with target_of("ollama", version, SETTINGS, lambda name: connection) as target:
        assert any("GGUF is there already" in told for told in target.prepare(version))
        target.switch(version)
    assert len({model.digest for model in client.list().models}) == 1
    shown = client.show("opstune:prod")
    assert shown.template == written.template and 'stop                           "<|im_end|>"' in (
        shown.parameters or ""
    )

    case = Smoke(version, SETTINGS).cases[0]
    schema: Any = get(case.skill).schema(case.context)
    options = {"temperature": 0, "num_predict": SETTINGS.max_new_tokens}
    told = client.chat("opstune:prod", messages=chat(case), format=schema, options=options)
    assert json.loads(told.message.content or "")["message"] == "connection to the warehouse timed out after 30 s"
    client.delete("theirs:prod")
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.show("theirs:prod")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", "blobs/sha256:" + "0" * 64, b"GGUF", 400, "digest mismatch"),
        ("POST", "blobs/latest", b"GGUF", 400, "invalid digest"),
        ("HEAD", "blobs/sha256:" + "0" * 64, None, 404, ""),
        ("POST", "create", {"model": "a", "modelfile": "FROM x"}, 400, "modelfile"),
        ("POST", "create", {"model": "a", "files": {"/m.gguf": "sha256:" + "0" * 64}}, 400, "relative"),
        ("POST", "create", {"model": "a", "files": {"m.gguf": "sha256:" + "0" * 64}}, 200, "no such file"),
        ("POST", "create", {"model": "a", "parameters": {"typical_p": 0.5}}, 400, "typical_p"),
        ("POST", "create", {"model": "a", "adapters": {"a": "b"}}, 400, "no longer supported"),
        ("POST", "create", {"model": "a/b/c:d"}, 400, "invalid"),
        ("POST", "show", {"model": "a"}, 404, "not found"),
        ("POST", "copy", {"source": "a", "destination": "b"}, 404, "not found"),
        ("POST", "copy", {"source": "a"}, 400, "destination"),
        ("DELETE", "delete", {"model": "a"}, 404, "not found"),
        ("POST", "chat", {"model": "a", "messages": [{"role": "robot", "content": ""}]}, 400, "robot"),
        ("POST", "chat", b"", 400, "missing request body"),
    ],
)
def test_the_stand_in_refuses_what_ollama_would_not_understand(
    server: FaultServer, method: str, path: str, body: Any, status: int, told: str
) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    with httpx.Client(trust_env=False) as client:
        response = client.request(method, f"{server.url}/api/{path}", **sent)
    assert response.status_code == status and told in response.text
