"""One question to one registered model, answered in this process by llama.cpp under the skill's schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opstune.engines.base import Answer, Case
from opstune.errors import InputError
from opstune.serve import engine
from opstune.settings import ServeSettings


def ask(bundle: Path, skill: str, context: Mapping[str, Any], settings: ServeSettings) -> Answer:
    """The greedy answer, constrained to what is valid for this context, as the gate measured it.

    Args:
        bundle: the folder of a version whose signature the registry checked, or a GGUF file.
        context: as the skill's context model has it; see ``context_from_text``.

    Raises:
        InputError: there is no GGUF.
        EvaluationError: the model cannot be loaded or gave no answer.
    """
    gguf = bundle / "gguf" / "model.gguf" if bundle.is_dir() else bundle
    if not gguf.is_file():
        raise InputError(f"{gguf} is not there", "ask", "Give the folder of a registered version or a GGUF file.")
    return engine.load(gguf, settings).answer([Case(skill, context)], constrained=True)[0]
