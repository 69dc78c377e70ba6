"""Any server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp's server.

What a server says is an answer, good or bad, only when it is whole and well formed. A server that is away, throttles,
refuses the question or answers half is a fault of the evaluation, which is told and never counted as a wrong answer.
"""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import Any

import httpx
from pydantic import BaseModel, Field

from opstune.engines.base import Answer, Case, Traits, parse
from opstune.engines.prompts import chat
from opstune.errors import ConfigError, EvaluationError, OpstuneError, ServiceDown
from opstune.http import Http
from opstune.settings import Connection, EndpointSettings
from opstune.skills import get
from opstune.skills.base import Json

log = logging.getLogger(__name__)

#: How the servers say that a prompt leaves no room for an answer.
_TOO_LONG = ("context_length_exceeded", "maximum context length", "exceed_context_size", "exceed context window")
#: Steps of an evaluation are this many rounds of requests, so that few of them wait for the last one.
_ROUNDS = 8
_SHOWN = 300


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage = _Usage()


class _TooLong(EvaluationError):
    """The prompt does not fit."""


class EndpointEngine:
    """A model by its name at a server; which weights stand behind the name, only the server knows."""

    def __init__(self, model: str, connection: Connection, asked: EndpointSettings, *, max_new_tokens: int) -> None:
        """
        Args:
            connection: the server's root, to which ``v1/chat/completions`` is added.
        """
        self._model, self._asked, self._max_new_tokens = model, asked, max_new_tokens
        self._http = Http(f"the server of {model}", connection, asked.patience, fault=self._fault)
        weakref.finalize(self, self._http.__exit__, None, None, None)
        self.name = f"endpoint:{model}@{self._http.address}"
        settings: dict[str, str | int] = {"max_new_tokens": max_new_tokens, "schema_form": asked.schema_form}
        self.traits = Traits(asked.parallel * _ROUNDS, settings, disk_bytes=None)
        self._warm = False

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the cases, ``parallel`` at a time, each with the seconds of its own request.

        There is no standard request for the likelihood of what is expected, so it is none. A case whose prompt leaves
        no room for an answer, or whose schema allows none, is answered with nothing.

        Raises:
            ServiceDown: the server does not answer, has a fault of its own, or answers in no form of an answer.
            Throttled: it asks for a longer pause than patience has.
            AccessDenied: it refuses the key.
            ConfigError: it knows no such model.
            EvaluationError: it refuses the question.
        """
        if (
            not self._warm
        ):  # the first request loads the model and shakes hands; no user of a running server waits for it
            self._complete([{"role": "user", "content": "ready?"}], None, 1)
            self._warm = True
        answers: list[Answer | None] = [None] * len(cases)
        pool = ThreadPoolExecutor(self._asked.parallel)
        try:
            # Threads have a context of their own, and would not know when the caller gives up.
            places = {
                pool.submit(copy_context().run, self._one, case, constrained): place for place, case in enumerate(cases)
            }
            for done, future in enumerate(as_completed(places), start=1):
                answers[places[future]] = future.result()
                if on_progress:
                    on_progress(done, len(cases))
        finally:
            pool.shutdown(cancel_futures=True)
        return [answer for answer in answers if answer is not None]

    def _one(self, case: Case, constrained: bool) -> Answer:
        schema = get(case.skill).schema(case.context) if constrained else None
        if schema is not None and _impossible(schema):
            log.warning("no answer of skill %s is valid for this case; it counts as unanswered", case.skill)
            return Answer("", None, 0, None)
        wanted = self._form(case.skill, schema) if schema is not None else None
        try:
            completion, seconds = self._complete(chat(case), wanted, self._max_new_tokens)
        except _TooLong:
            log.warning("a %s case does not fit; it counts as unanswered", case.skill)
            return Answer("", None, 0, None)
        said = completion.choices[0].message.content or ""
        text = said.encode(errors="replace").decode()  # half of a surrogate pair can be written to no file
        return Answer(text, parse(case.skill, text), completion.usage.completion_tokens, seconds)

    def _form(self, name: str, schema: Json) -> Json:
        if self._asked.schema_form == "json_object":
            return {"type": "json_object", "schema": schema}
        return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}

    def _complete(
        self, messages: Sequence[Mapping[str, str]], response_format: Json | None, longest: int
    ) -> tuple[_Completion, float]:
        """One completion and the seconds of the request that succeeded, without those that were asked again."""
        body: Json = {"model": self._model, "messages": list(messages), "temperature": 0, "seed": 0}
        body["max_tokens"] = longest
        if response_format is not None:
            body["response_format"] = response_format
        response = self._http.send("POST", "v1/chat/completions", json=body)
        return _read(response), response.elapsed.total_seconds()

    def _fault(self, response: httpx.Response) -> OpstuneError | None:
        where = f"POST {self._http.address}/v1/chat/completions"
        if response.is_success:
            try:
                _read(response)
                return None
            except ValueError:
                what = f"the server of {self._model} answers with no completion: {_shown(response)}"
                return ServiceDown(what, where, "Check what stands at this address; the evaluation goes on from here.")
        if response.status_code == 404:
            todo = "Correct the model's name, the connection's address, or load the model there."
            return ConfigError(f"the server knows no model {self._model}: {_shown(response)}", where, todo)
        # llama-cpp-python's server tells of a request that it cannot read as of a fault of its own.
        misread = response.status_code == 500 and "validation error" in response.text
        if response.status_code not in (400, 413, 422) and not misread:
            return None
        if any(words in response.text for words in _TOO_LONG):
            return _TooLong(_shown(response), where)
        what = f"the server of {self._model} refuses a question: {_shown(response)}"
        return EvaluationError(
            what, where, "See its own log; evaluate.endpoint.schema_form says how it wants a schema."
        )


def _impossible(schema: Json) -> bool:
    """Whether no value is valid: servers answer such a schema with a fault of their own."""
    if schema.get("enum") == []:
        return True
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices is not None:
        return all(map(_impossible, choices))
    needed: dict[str, Any] = {name: schema["properties"][name] for name in schema.get("required", ())}
    return any(map(_impossible, needed.values()))


def _read(response: httpx.Response) -> _Completion:
    return _Completion.model_validate(json.loads(response.content))  # pydantic's own reader refuses half a surrogate


def _shown(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:_SHOWN] or f"HTTP {response.status_code}"
