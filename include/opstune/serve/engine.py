"""The engine that answers for a registered model: llama.cpp in this process."""

from __future__ import annotations

from pathlib import Path

from opstune.engines.base import Engine
from opstune.settings import ServeSettings


def load(gguf: Path, settings: ServeSettings) -> Engine:
    """An engine over one GGUF, decoding as evaluation decodes.

    Raises:
        EvaluationError: the file cannot be read.
    """
    from opstune.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(
        gguf,
        context_tokens=settings.context_tokens,
        max_new_tokens=settings.max_new_tokens,
        threads=settings.threads,
    )
