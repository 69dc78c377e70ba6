"""A stand-in for OpenAI's chat completions as vLLM, Ollama and llama.cpp's server have them; it checks every request.

Facts of OpenAI's description and of the servers' own:
- ``POST /v1/chat/completions``; a schema comes as ``response_format {type: json_schema, json_schema: {name, schema,
  strict}}``, and for llama-cpp-python's server as ``{type: json_object, schema}``.
- the answer is ``choices[].message.content`` with ``usage``; content is null where nothing was said.
- a model that is not there is 404; a prompt that does not fit is 400 with ``context_length_exceeded`` (OpenAI,
  llama-cpp-python), "maximum context length" (vLLM) or ``exceed_context_size_error`` (llama.cpp's server).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fault_server import Answer, Request
from jsonschema import Draft202012Validator

KEY = "t0ken-of-the-server"
MODEL = "opstune:1.2.3"

Json = dict[str, Any]

_FORMS: dict[str, Json] = {
    "json_schema": {
        "type": "object",
        "required": ["type", "json_schema"],
        "additionalProperties": False,
        "properties": {
            "type": {"const": "json_schema"},
            "json_schema": {
                "type": "object",
                "required": ["name", "schema", "strict"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
                    "schema": {"type": "object"},
                    "strict": {"const": True},
                },
            },
        },
    },
    "json_object": {
        "type": "object",
        "required": ["type", "schema"],
        "additionalProperties": False,
        "properties": {"type": {"const": "json_object"}, "schema": {"type": "object"}},
    },
}


def _request(form: str) -> Json:
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["model", "messages", "temperature", "seed", "max_tokens"],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string"},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["role", "content"],
                    "additionalProperties": False,
                    "properties": {"role": {"enum": ["system", "user"]}, "content": text},
                },
            },
            "temperature": {"const": 0},
            "seed": {"type": "integer"},
            "max_tokens": {"type": "integer", "minimum": 1},
            "response_format": _FORMS[form],
        },
    }


class ChatServer:
    """``say`` is what it answers to the user's message and the schema; ``most`` how many requests it had at once."""

    def __init__(self, say: Callable[[str, Json | None], str | None], form: str = "json_schema") -> None:
        self._say, self._form = say, form
        self._lock, self._now = threading.Lock(), 0
        self.most = 0
        self.bodies: list[Json] = []

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return self._answer(request)
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, request: Request) -> Answer:
        if {name.lower(): value for name, value in request.headers.items()}.get("authorization") != f"Bearer {KEY}":
            return fault(401, "no such key")
        if (request.method, request.path) != ("POST", "/v1/chat/completions"):
            return fault(404, "no such path")
        body = request.json()
        for error in Draft202012Validator(_request(self._form)).iter_errors(body):
            return fault(422, f"{'.'.join(map(str, error.path))}: {error.message}")
        if body["model"] != MODEL:
            return fault(404, f"model '{body['model']}' not found")
        wanted = body.get("response_format")
        schema = (wanted.get("schema") or wanted["json_schema"]["schema"]) if wanted else None
        if schema is not None:
            Draft202012Validator.check_schema(schema)
        self.bodies.append(body)
        text = self._say(body["messages"][-1]["content"], schema)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 100, "completion_tokens": 12, "total_tokens": 112}
        return Answer({"id": "c-1", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage})


def fault(status: int, message: str, code: str | None = None) -> Answer:
    return Answer({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)
