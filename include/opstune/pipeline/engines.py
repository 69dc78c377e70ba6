"""The engines of the models that a retrain measures, as the configuration has them."""

from __future__ import annotations

from pathlib import Path

from opstune.engines.base import Engine
from opstune.settings import Settings


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
