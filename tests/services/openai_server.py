"""A stand-in for OpenAI's fine-tuning: files, jobs, events and cancelling, as its public OpenAPI description has them.

Facts of that description (openai/openai-openapi, and the types that openai-python generates from it):
- ``POST /v1/files``: multipart, ``file`` and ``purpose``; fine-tuning takes ``.jsonl`` and purpose ``fine-tune``.
- ``POST /v1/fine_tuning/jobs``: the schema below. Hyperparameters beside ``method`` are deprecated. The same file
  may be trained on again: every call makes a job.
- a job is ``validating_files``, ``queued``, ``running``, ``paused``, ``succeeded``, ``failed`` or ``cancelled``; one
  that failed has ``error {code, message, param}``; ``fine_tuned_model`` is null until it has succeeded.
- lists are the newest first, ``limit`` and ``after``, with ``has_more``.
- an example is ``{"messages": [{"role", "content"}, ...]}``, ends with the assistant, and a file holds ten at least.
- every fault is ``{"error": {"message", "type", "param", "code"}}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from email.parser import BytesParser
from typing import Any

from fault_server import Answer, Request
from jsonschema import Draft202012Validator

KEY = "sk-t3st"
MODEL = "gpt-4.1-mini-2025-04-14"
#: Fewer examples are refused.
FEWEST = 10

Json = dict[str, Any]


def _or_auto(of: Json) -> Json:
    return {"anyOf": [{"const": "auto"}, of]}


_SUPERVISED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "hyperparameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "batch_size": _or_auto({"type": "integer", "minimum": 1, "maximum": 256}),
                "learning_rate_multiplier": _or_auto({"type": "number", "exclusiveMinimum": 0}),
                "n_epochs": _or_auto({"type": "integer", "minimum": 1, "maximum": 50}),
            },
        }
    },
}
CREATE = {
    "type": "object",
    "required": ["model", "training_file"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string"},
        "training_file": {"type": "string"},
        "validation_file": {"type": ["string", "null"]},
        "suffix": {"type": ["string", "null"], "minLength": 1, "maxLength": 64},
        "seed": {"type": ["integer", "null"], "minimum": 0, "maximum": 2147483647},
        "metadata": {"type": ["object", "null"], "maxProperties": 16},
        "method": {
            "type": "object",
            "required": ["type"],
            "additionalProperties": False,
            "properties": {"type": {"enum": ["supervised"]}, "supervised": _SUPERVISED},
        },
    },
}


class OpenAI:
    """``files`` and ``jobs`` by id, ``posted`` the bodies that made jobs. A job takes a step whenever it is looked at.

    ``ending`` is how a job ends that nothing is wrong with; ``steps`` is how many steps it takes.
    """

    def __init__(self, ending: str = "succeeded", steps: int = 3) -> None:
        self.ending, self.steps = ending, steps
        self.files: dict[str, list[Json]] = {}
        self.deleted: list[str] = []
        self.jobs: dict[str, Json] = {}
        self.events: dict[str, list[Json]] = {}
        self.posted: list[Json] = []

    def __call__(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if headers.get("authorization") != f"Bearer {KEY}":
            return _fault(401, "Incorrect API key provided.", code="invalid_api_key")
        match [request.method, *request.path.strip("/").split("/")]:
            case ["POST", "v1", "files"]:
                return self._upload(headers["content-type"], request.body)
            case ["DELETE", "v1", "files", file]:
                return self._delete(file)
            case ["POST", "v1", "fine_tuning", "jobs"]:
                return self._create(request.json())
            case ["GET", "v1", "fine_tuning", "jobs"]:
                return _page(list(self.jobs.values()), request.query)
            case ["GET", "v1", "fine_tuning", "jobs", job] if job in self.jobs:
                return Answer(self._step(self.jobs[job]))
            case ["GET", "v1", "fine_tuning", "jobs", job, "events"] if job in self.jobs:
                return _page(self.events[job], request.query)
            case ["POST", "v1", "fine_tuning", "jobs", job, "cancel"] if job in self.jobs:
                return self._cancel(self.jobs[job])
        return _fault(404, f"No such thing: {request.path}", code="not_found")

    def _upload(self, kind: str, body: bytes) -> Answer:
        parts = {}
        for part in BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload():
            parts[part.get_param("name", header="content-disposition")] = part
        if set(parts) != {"file", "purpose"} or parts["purpose"].get_payload() != "fine-tune":
            return _fault(400, "Invalid purpose.", param="purpose")
        if not str(parts["file"].get_filename()).endswith(".jsonl"):
            return _fault(400, "Invalid file format for Fine-Tuning API. Must be .jsonl", param="file")
        content = parts["file"].get_payload(decode=True)
        file = f"file-{len(self.files) + len(self.deleted) + 1}"
        self.files[file] = [json.loads(line) for line in content.decode().splitlines()]
        told = {"id": file, "object": "file", "bytes": len(content), "created_at": 1, "filename": "examples.jsonl"}
        return Answer({**told, "purpose": "fine-tune", "status": "processed"})

    def _delete(self, file: str) -> Answer:
        if self.files.pop(file, None) is None:
            return _fault(404, f"No such File object: {file}", param="id")
        self.deleted.append(file)
        return Answer({"id": file, "object": "file", "deleted": True})

    def _create(self, body: Json) -> Answer:
        for error in Draft202012Validator(CREATE).iter_errors(body):
            return _fault(400, error.message, param=".".join(map(str, error.path)))
        if body["model"] != MODEL:
            return _fault(400, f"Model {body['model']} is not available for fine-tuning.", param="model")
        if body["training_file"] not in self.files:
            return _fault(400, f"invalid training_file: {body['training_file']}", param="training_file")
        self.posted.append(body)
        job = {
            "id": f"ftjob-{len(self.jobs) + 1}", "object": "fine_tuning.job", "created_at": 2, "model": body["model"],
            "training_file": body["training_file"], "validation_file": None, "status": "validating_files",
            "fine_tuned_model": None, "finished_at": None, "trained_tokens": None, "result_files": [],
            "organization_id": "org-1", "seed": body["seed"], "method": body["method"], "error": None,
            "hyperparameters": body["method"]["supervised"]["hyperparameters"],
        }  # fmt: skip
        self.jobs[job["id"]] = job
        self.events[job["id"]] = []
        self._tell(job, f"Created fine-tuning job: {job['id']}")
        return Answer(job)

    def _step(self, job: Json) -> Json:
        done = sum(event["type"] == "metrics" for event in self.events[job["id"]])
        if job["status"] == "validating_files":
            wrong = _wrong(self.files.get(job["training_file"], []))
            job.update(status="failed" if wrong else "queued")
            if wrong:
                job["error"] = {"code": "invalid_training_file", "message": wrong, "param": "training_file"}
        elif job["status"] == "queued":
            job.update(status="running")
        elif job["status"] == "running" and done < self.steps:
            numbers = {"step": done + 1, "total_steps": self.steps, "train_loss": 1.0 / (done + 1)}
            said = f"Step {done + 1}/{self.steps}: training loss={numbers['train_loss']:.2f}"
            self._tell(job, said, "metrics", numbers)
        elif job["status"] == "running":
            job.update(status=self.ending)
            if self.ending == "succeeded":
                job.update(fine_tuned_model=f"ft:{MODEL}:org:opstune:abc", trained_tokens=1234, finished_at=3)
                self._tell(job, "The job has successfully completed")
            elif self.ending == "failed":
                job["error"] = {
                    "code": "server_error",
                    "message": "The job failed due to an internal error.",
                    "param": None,
                }
        return job

    def _cancel(self, job: Json) -> Answer:
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return _fault(400, f"Job has already completed: {job['id']}")
        job.update(status="cancelled")
        return Answer(job)

    def _tell(self, job: Json, message: str, kind: str = "message", data: Json | None = None) -> None:
        number = sum(len(told) for told in self.events.values()) + 1
        event = {"object": "fine_tuning.job.event", "id": f"ftevent-{number}", "created_at": number, "level": "info"}
        self.events[job["id"]].append({**event, "message": message, "type": kind, "data": data or {}})


def _wrong(examples: list[Json]) -> str:
    """What is wrong with a training file, as its validation says it."""
    checks: list[tuple[Callable[[list[Json]], bool], str]] = [
        (
            lambda found: len(found) < FEWEST,
            f"Training file has {len(examples)} example(s), but must have 10.",
        ),
        (lambda found: any(set(one) != {"messages"} for one in found), "Examples must have the key messages alone."),
        (lambda found: any(not _is_chat(one["messages"]) for one in found), "A message has a wrong role or content."),
        (lambda found: any(one["messages"][-1]["role"] != "assistant" for one in found), "Last must be the assistant."),
    ]
    return next((told for fails, told in checks if fails(examples)), "")


def _is_chat(messages: Any) -> bool:
    roles = ("system", "user", "assistant")
    return isinstance(messages, list) and all(
        set(one) == {"role", "content"} and one["role"] in roles and isinstance(one["content"], str) for one in messages
    )


def _page(entries: list[Json], query: dict[str, str]) -> Answer:
    newest, limit = entries[::-1], int(query.get("limit", 20))
    start = next((n + 1 for n, one in enumerate(newest) if one["id"] == query.get("after")), 0)
    return Answer({"object": "list", "data": newest[start : start + limit], "has_more": start + limit < len(newest)})


def _fault(status: int, message: str, param: str | None = None, code: str | None = None) -> Answer:
    told = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Answer({"error": told}, status)
