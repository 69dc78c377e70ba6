"""Ollama's HTTP interface as deploying needs it. Facts are of its source: server/routes.go, server/create.go."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, Field

from opstune.engines.base import Case
from opstune.engines.prompts import chat
from opstune.errors import DeployError, DiskFull, OpstuneError, ServiceDown
from opstune.http import Http, time_left
from opstune.serve.deploy.modelfile import Modelfile, parameters_of_show
from opstune.settings import Connection, Patience
from opstune.skills import get

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TELL_SECONDS = 5.0
#: The weights of a model in its own words: a line of the Modelfile that ``/api/show`` tells.
_FROM = re.compile(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)
_TODO = "Its own log says more. Nothing else was changed."


class NotThere(DeployError):
    """There is no such model or blob."""


@dataclass(frozen=True)
class Shown:
    """What a name stands for: ``blob`` is the sha256 of the weights, or none where Ollama does not tell it."""

    blob: str | None
    modelfile: Modelfile


class _Model(BaseModel):
    name: str
    digest: str


class _Tags(BaseModel):
    models: list[_Model]


class _Show(BaseModel):
    modelfile: str = ""
    template: str = ""
    system: str = ""
    parameters: str = ""


class _Message(BaseModel):
    content: str


class _Rendered(BaseModel):
    rendered_template: str


class _Chat(BaseModel):
    message: _Message
    debug: _Rendered | None = Field(None, alias="_debug_info")


class Ollama:
    """One server. Every method raises ServiceDown where it does not answer and DeployError where it refuses."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self._http = Http("Ollama", connection, patience, fault=_fault)
        self.address = self._http.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.__exit__(kind, error, trace)

    def tags(self) -> dict[str, str]:
        """Every name and the digest of the manifest that it stands for: equal digests are one model."""
        found = self._http.parsed(_Tags, self._http.get("api/tags"))
        return {model.name: model.digest for model in found.models}

    def show(self, model: str) -> Shown:
        """What a name stands for.

        Raises:
            NotThere: nothing.
        """
        told = self._http.parsed(_Show, self._http.post("api/show", {"model": model}))
        weights = _FROM.search(told.modelfile)
        written = Modelfile(told.template, told.system, parameters_of_show(told.parameters))
        return Shown(weights[1] if weights else None, written)

    def has_blob(self, sha256: str) -> bool:
        try:
            self._http.send("HEAD", f"api/blobs/sha256:{sha256}")
        except NotThere:
            return False
        return True

    def upload(self, file: Path, sha256: str) -> None:
        """Send a file's bytes; Ollama refuses them where they are not what the digest says."""
        content = _Content(file)
        headers = {"Content-Length": str(content.size), "Content-Type": "application/octet-stream"}
        self._http.send("POST", f"api/blobs/sha256:{sha256}", content=content, headers=headers)

    def create(self, model: str, sha256: str, modelfile: Modelfile) -> list[str]:
        """Make a model of an uploaded GGUF; returns what Ollama said it did.

        Raises:
            DeployError: it refused, whether before or in the middle of its answer.
        """
        body: dict[str, Any] = {
            "model": model,
            "files": {"model.gguf": f"sha256:{sha256}"},
            "template": modelfile.template,
            "system": modelfile.system,
            "parameters": modelfile.parameters,
        }
        response = self._http.send("POST", "api/create", json=body)
        told = list(_lines(response, f"{self.address}/api/create"))
        if refused := next((line["error"] for line in told if "error" in line), None):
            raise _refused(str(refused), f"POST {self.address}/api/create")
        statuses = [str(line.get("status", "")) for line in told]
        if statuses[-1:] != ["success"]:
            what = f"Ollama broke off in the middle of making {model}"
            raise ServiceDown(what, f"{self.address}/api/create", "Deploy it again: what was uploaded is kept.")
        return statuses

    def copy(self, source: str, destination: str) -> None:
        self._http.send("POST", "api/copy", json={"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        self._http.send("DELETE", "api/delete", json={"model": model})

    def ask(self, model: str, case: Case, longest: int) -> str:
        """The greedy answer to one case under its schema, of at most ``longest`` tokens."""
        body = {
            "model": model,
            "messages": chat(case),
            "format": get(case.skill).schema(case.context),
            "options": {"temperature": 0, "seed": 0, "num_predict": longest},
            "stream": False,
        }
        return self._http.parsed(_Chat, self._http.post("api/chat", body)).message.content

    def rendered(self, model: str, case: Case) -> str | None:
        """The prompt that the model's template makes of a case; none where this Ollama does not tell it."""
        body = {"model": model, "messages": chat(case), "stream": False, "_debug_render_only": True}
        debug = self._http.parsed(_Chat, self._http.post("api/chat", body)).debug
        return debug.rendered_template if debug else None


class _Content:
    """A file's bytes, read anew for every attempt; how far they are is told every few seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.size = file.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        sent, started = 0, time.monotonic()
        told = started
        with self._file.open("rb") as file:
            while chunk := file.read(_CHUNK):
                if time_left() <= 0:
                    what = f"{sent / 1e6:.0f} of {self.size / 1e6:.0f} MB were uploaded when the time was over"
                    raise ServiceDown(what, str(self._file), "Check the line to Ollama.")
                yield chunk
                sent += len(chunk)
                if (now := time.monotonic()) - told >= _TELL_SECONDS:
                    told = now
                    speed = sent / 1e6 / (now - started)
                    log.info("%.0f of %.0f MB uploaded, %.0f MB/s", sent / 1e6, self.size / 1e6, speed)


def _lines(response: httpx.Response, where: str) -> Iterator[dict[str, Any]]:
    for line in response.text.splitlines():
        try:
            found = json.loads(line)
        except ValueError as error:
            todo = "Check that the address is Ollama's own."
            raise ServiceDown("Ollama answers with something that is not JSON lines", where, todo) from error
        yield found if isinstance(found, dict) else {}


def _fault(response: httpx.Response) -> OpstuneError | None:
    """Ollama says in a JSON body what it refuses; without such words it is the line or a proxy that failed."""
    status = response.status_code
    if response.is_success or status in (401, 403, 407, 429, 502, 503, 504):
        return None
    where = f"{response.request.method} {response.request.url.copy_with(query=None, username=None, password=None)}"
    words = _words(response)
    if status == 404:
        return NotThere(words or "Ollama has nothing there", where, _TODO)
    if not words or status < 400:
        return None
    return _refused(words, where)


def _refused(words: str, where: str) -> OpstuneError:
    if "no space left" in words:
        return DiskFull(f"Ollama's disk is full: {words}", where, "Free space there: old versions' tags hold theirs.")
    return DeployError(f"Ollama refuses: {words}", where, _TODO)


def _words(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return ""
    return str(found.get("error", ""))[:300] if isinstance(found, dict) else ""
