"""A stand-in for Ollama that checks every request and answers from the real weights, through llama.cpp.

Facts of its source (ollama/ollama: server/routes.go, server/create.go, api/types.go):
- ``HEAD /api/blobs/sha256:…`` is 200 or 404. ``POST`` is 201, 200 where it is there already, and 400 where the bytes
  have another digest.
- ``POST /api/create``: ``files`` is a relative path → digest. LoRA adapters and quantising a GGUF are refused. It
  answers a status a line (application/x-ndjson), ``success`` last; a fault after the first line is a line with
  ``error`` under HTTP 200. ``stream: false`` answers the last line alone.
- ``POST /api/show``: template and system as given, parameters as ``name   value`` lines, a Modelfile whose FROM names
  the blob. ``GET /api/tags``: every name with the digest of its manifest, which a copy keeps.
- ``POST /api/copy`` overwrites; ``DELETE /api/delete`` takes a body; both say 404 ``model … not found``.
- ``POST /api/chat``: ``format`` is a JSON schema; the model's own SYSTEM is put before a chat without one.
  ``_debug_render_only`` answers with the prompt instead, in ``_debug_info``.
- a fault is ``{"error": "…"}``.

Stricter than the real one: a field that the API does not have is refused instead of ignored. The weights answer in
the chat that the model's TEMPLATE writes; one of no known family makes a prompt of the last message alone, as Ollama's
own ``{{ .Prompt }}`` does. So a wrong template gives wrong answers here too.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fault_server import Answer, Request
from jsonschema import Draft202012Validator, SchemaError

from opstune.engines.llama_cpp import LlamaCppEngine
from opstune.export.modelfile import families

VERSION = "0.30.0"

Json = dict[str, Any]

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_NAME = re.compile(r"(?:[A-Za-z0-9_][\w.-]*/)?[A-Za-z0-9_][\w.-]{0,79}(?::[A-Za-z0-9_][\w.-]{0,79})?")
_TEXT, _FLAG, _WHOLE, _NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "number"}
_OPTIONS = {
    **dict.fromkeys(("num_ctx", "num_batch", "num_gpu", "num_thread", "num_keep", "seed", "num_predict"), _WHOLE),
    **dict.fromkeys(("top_k", "repeat_last_n"), _WHOLE),
    **dict.fromkeys(("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty"), _NUMBER),
    "frequency_penalty": _NUMBER,
    "stop": {"type": "array", "items": _TEXT},
}
_MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "additionalProperties": False,
        "properties": {"role": {"enum": ["system", "user", "assistant", "tool"]}, "content": _TEXT},
    },
}


def _body(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


BODIES = {
    "create": _body(
        ["model"],
        model=_TEXT,
        stream=_FLAG,
        files={"type": "object", "additionalProperties": _TEXT},
        adapters={"type": "object", "additionalProperties": _TEXT},
        template=_TEXT,
        system=_TEXT,
        license={"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
        parameters={"type": "object", "additionalProperties": False, "properties": _OPTIONS},
        messages=_MESSAGES,
        quantize=_TEXT,
        **{"from": _TEXT},
    ),
    "show": _body(["model"], model=_TEXT, verbose=_FLAG, system=_TEXT),
    "copy": _body(["source", "destination"], source=_TEXT, destination=_TEXT),
    "delete": _body(["model"], model=_TEXT),
    "chat": _body(
        ["model", "messages"],
        model=_TEXT,
        messages=_MESSAGES,
        stream=_FLAG,
        format={"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]},
        options={"type": "object", "additionalProperties": False, "properties": _OPTIONS},
        keep_alive={"anyOf": [_TEXT, _NUMBER]},
        tools={"type": "array"},
        _debug_render_only=_FLAG,
    ),
}


@dataclass(frozen=True)
class Made:
    """What a name stands for."""

    blob: str
    size: int
    template: str
    system: str
    parameters: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Ollama:
    """``models`` by name. ``says`` may answer instead of the weights: it gets the model's name and the request."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder
        self.models: dict[str, Made] = {}
        self.says: Callable[[str, Json], str | None] = lambda model, body: None
        self._one_at_a_time = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        match [request.method, *request.path.strip("/").split("/")]:
            case ["GET", "api", "version"]:
                return Answer({"version": VERSION})
            case ["GET", "api", "tags"]:
                return Answer({"models": [_listed(name, made) for name, made in self.models.items()]})
            case ["HEAD" | "POST", "api", "blobs", digest]:
                return self._blob(request, digest)
            case ["POST", "api", "create" | "show" | "copy" | "chat" as what] | ["DELETE", "api", "delete" as what]:
                return self._checked(what, request)
        return Answer(b"404 page not found", 404, {"Content-Type": "text/plain"})

    def _blob(self, request: Request, digest: str) -> Answer:
        asked = _DIGEST.fullmatch(digest)
        if not asked:
            return _fault(400, "invalid digest format")
        file = self.blobs / asked[1]
        if request.method == "HEAD":
            return Answer(b"", 200 if file.is_file() else 404)
        if file.is_file():
            return Answer(b"")
        found = hashlib.sha256(request.body).hexdigest()
        if found != asked[1]:
            return _fault(400, f'digest mismatch, expected "{digest}", got "sha256:{found}"')
        file.write_bytes(request.body)
        return Answer(b"", 201)

    def _checked(self, what: str, request: Request) -> Answer:
        if not request.body:
            return _fault(400, "missing request body")
        try:
            body = request.json()
        except ValueError as error:
            return _fault(400, f"invalid JSON: {error}")
        for error in Draft202012Validator(BODIES[what]).iter_errors(body):
            return _fault(400, f"{'.'.join(map(str, error.path)) or what}: {error.message}")
        if bad := next((body[name] for name in ("model", "source", "destination") if _invalid(body.get(name))), None):
            return _fault(400, f'name "{bad}" is invalid')
        with self._one_at_a_time:
            answer: Answer = getattr(self, f"_{what}")(body)
        return answer

    def _create(self, body: Json) -> Answer:
        if body.get("adapters"):
            return _fault(400, "LoRA adapters are no longer supported")
        if body.get("quantize"):
            return _fault(400, "create-time quantization is only supported for safetensors imports")
        if not body.get("files"):
            return _fault(400, "neither 'from' or 'files' was specified")
        ((path, digest), *more) = body["files"].items()
        asked = _DIGEST.fullmatch(digest)
        if more or path.startswith("/") or re.search(r"[\\:]", path) or ".." in path.split("/"):
            return _fault(400, f"file path must be relative: {path}")
        if not asked:
            return _fault(400, f"invalid digest for {path}: invalid digest format")
        file = self.blobs / asked[1]
        lines: list[Json] = [{"status": "parsing GGUF"}]
        if not file.is_file() or file.read_bytes()[:4] != b"GGUF":
            reason = "invalid file magic" if file.is_file() else f"open {digest}: no such file or directory"
            return _streamed(body, [*lines, {"error": reason}])
        if body.get("template", "").count("{{") != body.get("template", "").count("}}"):
            return _streamed(body, [*lines, {"error": "template error: unclosed action"}])
        shown = "\n".join(line for name, value in body.get("parameters", {}).items() for line in shown_as(name, value))
        made = Made(asked[1], file.stat().st_size, body.get("template", ""), body.get("system", ""), shown)
        self.models[_full(body["model"])] = made
        layers = [f"using existing layer sha256:{asked[1]}", f"creating new layer sha256:{made.digest}"]
        statuses = [*layers, "writing manifest", "success"]
        return _streamed(body, [*lines, *({"status": status} for status in statuses)])

    def _show(self, body: Json) -> Answer:
        made = self.models.get(_full(body["model"]))
        if made is None:
            return _fault(404, f"model '{body['model']}' not found")
        modelfile = (
            f'# Modelfile generated by "ollama show"\n# FROM {_full(body["model"])}\n\n'
            f'FROM /usr/share/ollama/.ollama/models/blobs/sha256-{made.blob}\nTEMPLATE """{made.template}"""\n'
        )
        told = {"modelfile": modelfile, "template": made.template, "system": made.system, "parameters": made.parameters}
        return Answer({**told, "details": _DETAILS, "model_info": {}, "capabilities": ["completion"]})

    def _copy(self, body: Json) -> Answer:
        made = self.models.get(_full(body["source"]))
        if made is None:
            return _fault(404, f'model "{body["source"]}" not found')
        self.models[_full(body["destination"])] = made
        return Answer(b"")

    def _delete(self, body: Json) -> Answer:
        if self.models.pop(_full(body["model"]), None) is None:
            return _fault(404, f"model '{body['model']}' not found")
        return Answer(b"")

    def _chat(self, body: Json) -> Answer:
        made = self.models.get(_full(body["model"]))
        if made is None:
            return _fault(404, f"model '{body['model']}' not found")
        if isinstance(body.get("format"), dict):
            try:
                Draft202012Validator.check_schema(body["format"])
            except SchemaError as error:
                return _fault(400, f"invalid JSON schema in format: {error.message}")
        if body.get("_debug_render_only"):
            told = {"model": body["model"], "message": {"role": "", "content": ""}, "done": False}
            return Answer({**told, "_debug_info": {"rendered_template": _rendered(made, body["messages"])}})
        said = self.says(body["model"], body)
        text, tokens = (said, 1) if said is not None else self._answer(made, body)
        last = {
            "model": body["model"], "created_at": "2026-11-21T00:00:00Z",
            "message": {"role": "assistant", "content": text}, "done": True, "done_reason": "stop",
            "total_duration": 1, "load_duration": 1, "prompt_eval_count": 1, "prompt_eval_duration": 1,
            "eval_count": tokens, "eval_duration": 1,
        }  # fmt: skip
        return _streamed(body, [last])

    def _answer(self, made: Made, body: Json) -> tuple[str, int]:
        prompt = _rendered(made, body["messages"])
        model = _engine(made.blob, self.blobs / made.blob)._model()
        tokens = model.llama.tokenize(prompt.encode(), add_bos=False, special=True)
        constraint = model.constraints.start("chat", body["format"]) if isinstance(body.get("format"), dict) else None
        answer = model.generate(tokens, constraint, body.get("options", {}).get("num_predict", 160))
        return model.llama.detokenize(answer, special=True).decode(errors="replace"), len(answer)


def _rendered(made: Made, messages: list[dict[str, str]]) -> str:
    if messages[0]["role"] != "system" and made.system:
        messages = [{"role": "system", "content": made.system}, *messages]
    render = next((family.render for family in families("<|endoftext|>") if family.template == made.template), None)
    return render(messages) if render else messages[-1]["content"]


def _engine(digest: str, file: Path) -> LlamaCppEngine:
    if digest not in _LOADED:
        _LOADED[digest] = LlamaCppEngine(file, context_tokens=1024, max_new_tokens=160, threads=1)
    return _LOADED[digest]


#: Weights are the same whoever keeps them: loaded once.
_LOADED: dict[str, LlamaCppEngine] = {}
_DETAILS = {"parent_model": "", "format": "gguf", "family": "qwen2", "families": ["qwen2"], "parameter_size": "3.5M"}


def _listed(name: str, made: Made) -> Json:
    told = {"name": name, "model": name, "modified_at": "2026-11-21T00:00:00Z"}
    return {**told, "size": made.size, "digest": made.digest, "details": _DETAILS}


def shown_as(name: str, value: Any) -> list[str]:
    """A parameter as ``/api/show`` tells it."""
    return [f"{name:<30} {json.dumps(one)}" for one in (value if isinstance(value, list) else [value])]


def _streamed(body: Json, lines: list[Json]) -> Answer:
    if body.get("stream", True):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        return Answer(text.encode(), headers={"Content-Type": "application/x-ndjson"})
    return Answer(lines[-1], 500 if "error" in lines[-1] else 200)


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _invalid(name: str | None) -> bool:
    return name is not None and _NAME.fullmatch(name) is None


def _fault(status: int, words: str) -> Answer:
    return Answer({"error": words}, status)
