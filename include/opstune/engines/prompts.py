"""What a model is shown, and which model it is: the same text and names for every engine."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from opstune.artifacts import fingerprint, sha256_file
from opstune.engines.base import Case
from opstune.errors import EvaluationError
from opstune.skills import get
from opstune.skills.base import messages


def chat(case: Case) -> list[dict[str, str]]:
    """The chat of one case, in Unicode NFC: Qwen2's tokenizer composes, llama.cpp's does not, so we do."""
    asked = messages(get(case.skill), case.context)
    return [{**message, "content": unicodedata.normalize("NFC", message["content"])} for message in asked]


def identity(files: Iterable[Path]) -> str:
    """Twelve hex digits over the content of files: which weights these are.

    Raises:
        EvaluationError: there are none, or one cannot be read.
    """
    todo = "Run the stage that makes it again."
    try:
        hashes = {file.name: sha256_file(file) for file in sorted(files)}
    except OSError as error:
        raise EvaluationError(f"{error.filename} cannot be read", "engine", todo) from error
    if not hashes:
        raise EvaluationError("the model's folder holds no weights", "engine", todo)
    return fingerprint(hashes)[:12]
