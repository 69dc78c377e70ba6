"""A dataset in the formats of other trainers: OpenAI messages, and alpaca with LLaMA-Factory's dataset_info.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from opstune import artifacts, skills
from opstune.artifacts import Ref
from opstune.dataset.split import SPLITS
from opstune.examples import Example
from opstune.skills.base import SYSTEM, messages, target
from opstune.tables import read_examples

Format = Literal["messages", "alpaca"]


def export(dataset: Ref, out: Path, format: Format) -> list[Path]:
    """Write train, validation and test as JSON lines into ``out`` and return what was written.

    ``messages``: ``{"messages": [system, user, assistant]}``. ``alpaca``: ``instruction``, ``input``,
    ``output``, ``system``; instruction, a line break and input make exactly our user message, which is how
    LLaMA-Factory joins them, and ``dataset_info.json`` declares the files to it.

    Raises:
        IntegrityError: a file of the dataset changed.
    """
    artifacts.verify(dataset)
    row: Callable[[Example], dict[str, Any]] = {"messages": as_messages, "alpaca": as_alpaca}[format]
    written = []
    for split in SPLITS:
        examples = read_examples(dataset.path / f"{split}.parquet")
        written.append(out / f"{split}.jsonl")
        artifacts.write_text(
            written[-1], "".join(f"{json.dumps(row(example), ensure_ascii=False)}\n" for example in examples)
        )
    if format == "alpaca":
        columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
        info = {f"opstune_{split}": {"file_name": f"{split}.jsonl", "columns": columns} for split in SPLITS}
        written.append(out / "dataset_info.json")
        artifacts.write_text(written[-1], json.dumps(info, indent=1))
    return written


def as_messages(example: Example) -> dict[str, Any]:
    """One example as a chat."""
    chat = messages(skills.get(example.skill), example.context)
    return {"messages": [*chat, {"role": "assistant", "content": target(example.answer)}]}


def as_alpaca(example: Example) -> dict[str, Any]:
    """One example as instruction (the task), input (the case), output and system."""
    instruction, _, case = skills.get(example.skill).render(example.context).partition("\n")
    return {"instruction": instruction, "input": case, "output": target(example.answer), "system": SYSTEM}
