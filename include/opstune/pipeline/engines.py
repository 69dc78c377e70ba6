"""The engines of the models that a retrain measures, as the configuration has them."""

from __future__ import annotations

from pathlib import Path

from opstune.artifacts import sha256_file
from opstune.engines.base import Engine
from opstune.errors import ConfigError
from opstune.settings import Settings

ENDPOINT = "opstune_endpoint"


def hugging_face(base: Path, adapter: Path | None, settings: Settings, chats: Path | None) -> Engine:
    from opstune.engines.hugging_face import HuggingFaceEngine  # torch takes seconds, and most stages need none

    asked = settings.evaluate
    return HuggingFaceEngine(
        base,
        adapter,
        batch_size=asked.batch_size,
        max_new_tokens=asked.max_new_tokens,
        threads=asked.threads,
        tokenizer=chats,
    )


def llama_cpp(gguf: Path, settings: Settings) -> Engine:
    from opstune.engines.llama_cpp import LlamaCppEngine

    serve = settings.serve
    return LlamaCppEngine(
        gguf, context_tokens=serve.context_tokens, max_new_tokens=serve.max_new_tokens, threads=serve.threads
    )


def shipped(gguf: Path, settings: Settings) -> Engine:
    """What answers for a GGUF as it will be served: llama.cpp here, or the server that the configuration names.

    Raises:
        ConfigError: a model is named, but nobody knows where its server is.
    """
    if (model := settings.evaluate.endpoint.model) is None:
        return llama_cpp(gguf, settings)
    from opstune.engines.endpoint import EndpointEngine

    connection = settings.connection(ENDPOINT)
    if connection is None:
        todo = f"Give its address as the Airflow connection {ENDPOINT}, or set evaluate.endpoint.model to null."
        raise ConfigError(f"there is no connection {ENDPOINT}", "evaluate.endpoint", todo)
    named = model.replace("{sha256}", sha256_file(gguf)[:12])
    return EndpointEngine(named, connection, settings.evaluate.endpoint, max_new_tokens=settings.serve.max_new_tokens)
