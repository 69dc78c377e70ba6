"""The part of OpenAI's HTTP interface that vLLM and llama.cpp's server share, and their health check."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import BaseModel

from opstune.engines.base import Case
from opstune.engines.prompts import chat
from opstune.errors import DeployError, OpstuneError
from opstune.http import Http
from opstune.settings import Connection, Patience
from opstune.skills import get

#: How a server wants the schema: llama.cpp's takes either, vLLM the first.
Format = Literal["json_schema", "json_object"]


class _Entry(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Entry]


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice]


class Server:
    """One server. Every method raises ServiceDown where it does not answer and DeployError where it refuses."""

    def __init__(self, name: str, connection: Connection, patience: Patience, form: Format = "json_schema") -> None:
        self._http = Http(name, connection, patience, fault=_fault)
        self._form = form
        self.address = self._http.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.__exit__(kind, error, trace)

    def health(self) -> None:
        """Ask until the model is loaded: both servers answer 503 to ``/health`` before."""
        self._http.send("GET", "health")

    def models(self) -> list[str]:
        """The names that it answers to."""
        return [model.id for model in self._http.parsed(_Models, self._http.get("v1/models")).data]

    def ask(self, model: str, case: Case, longest: int) -> str:
        """The greedy answer to one case under its schema, of at most ``longest`` tokens."""
        schema = get(case.skill).schema(case.context)
        wrapped: dict[str, Any] = {"type": "json_object", "schema": schema}
        if self._form == "json_schema":
            wrapped = {"type": "json_schema", "json_schema": {"name": case.skill, "strict": True, "schema": schema}}
        body = {
            "model": model,
            "messages": chat(case),
            "response_format": wrapped,
            "temperature": 0,
            "seed": 0,
            "max_tokens": longest,
        }
        found = self._http.parsed(_Completion, self._http.post("v1/chat/completions", body))
        return (found.choices[0].message.content or "") if found.choices else ""


def _fault(response: httpx.Response) -> OpstuneError | None:
    """A request that is refused with words is about the model; all else is the line, the server or the key."""
    if response.status_code not in (400, 404, 413, 422):
        return None
    where = f"{response.request.method} {response.request.url.copy_with(query=None, username=None, password=None)}"
    return DeployError(f"the server refuses: {_words(response)}", where, "Its own log says more.")


def _words(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        found = None
    error = found.get("error", found) if isinstance(found, dict) else found
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message or f"HTTP {response.status_code}")[:300]
