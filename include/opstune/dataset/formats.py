"""A dataset in the formats of other trainers and tools: what each is, stands at its function."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from opstune import artifacts, skills
from opstune.artifacts import Ref
from opstune.dataset.split import SPLITS, Split
from opstune.errors import DataError
from opstune.examples import Example
from opstune.skills.base import SYSTEM, messages, target
from opstune.tables import read_examples

Format = Literal["messages", "alpaca", "sharegpt", "huggingface", "csv"]
Row = dict[str, Any]
Parts = Mapping[Split, list[Example]]

#: What LLaMA-Factory's dataset_info.json says of each file besides its name.
_ALPACA = {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}}
_SHAREGPT = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system"},
    "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
}


def export(dataset: Ref, out: Path, format: Format) -> list[Path]:
    """Write train, validation and test into ``out`` and return the files that were written.

    A repeated example is repeated there as well.

    Raises:
        IntegrityError: a file of the dataset changed.
        DataError: a folder of another format, or something else, stands in the way.
    """
    artifacts.verify(dataset)
    parts: Parts = {split: read_examples(dataset.path / f"{split}.parquet") for split in SPLITS}
    return _WRITERS[format](parts, out)


def as_messages(example: Example) -> Row:
    """One example as a chat: OpenAI's ``{"messages": [system, user, assistant]}``, which TRL trains on."""
    chat = messages(skills.get(example.skill), example.context)
    return {"messages": [*chat, {"role": "assistant", "content": target(example.answer)}]}


def as_alpaca(example: Example) -> Row:
    """One example as instruction (the task), input (the case), output and system.

    Instruction, a line break and input make exactly our user message, which is how LLaMA-Factory joins them.
    """
    instruction, _, case = skills.get(example.skill).render(example.context).partition("\n")
    return {"instruction": instruction, "input": case, "output": target(example.answer), "system": SYSTEM}


def as_sharegpt(example: Example) -> Row:
    """One example as ShareGPT's conversation between ``human`` and ``gpt``."""
    asked, answered = skills.get(example.skill).render(example.context), target(example.answer)
    conversation = [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]
    return {"conversations": conversation, "system": SYSTEM}


def as_record(example: Example) -> Row:
    """One example as flat columns: prompt and answer, and what a person sorts them by."""
    return {
        "id": example.id,
        "skill": example.skill,
        "source": example.source,
        "occurred_at": example.occurred_at.isoformat(),
        "system": SYSTEM,
        "prompt": skills.get(example.skill).render(example.context),
        "answer": target(example.answer),
    }


def _write_messages(parts: Parts, out: Path) -> list[Path]:
    return _write_lines(parts, out, as_messages)


def _write_alpaca(parts: Parts, out: Path) -> list[Path]:
    return [*_write_lines(parts, out, as_alpaca), _write_info(out, _ALPACA)]


def _write_sharegpt(parts: Parts, out: Path) -> list[Path]:
    return [*_write_lines(parts, out, as_sharegpt), _write_info(out, _SHAREGPT)]


def _write_csv(parts: Parts, out: Path) -> list[Path]:
    written = []
    for split, examples in parts.items():
        text = io.StringIO()
        rows = csv.DictWriter(text, ["id", "skill", "source", "occurred_at", "system", "prompt", "answer"])
        rows.writeheader()
        rows.writerows(as_record(example) for example in examples)
        written.append(out / f"{split}.csv")
        artifacts.write_text(written[-1], text.getvalue())
    return written


def _write_huggingface(parts: Parts, out: Path) -> list[Path]:
    """A ``datasets.DatasetDict`` on disk, with ``id``, ``skill`` and the chat as ``messages``."""
    from datasets import Dataset, DatasetDict, Features, Value

    if out.exists() and any(out.iterdir()) and not (out / "dataset_dict.json").is_file():
        raise DataError("the folder is not empty and holds no Hugging Face dataset", str(out), "Name a new folder.")
    rows = {
        split: [{"id": example.id, "skill": example.skill, **as_messages(example)} for example in examples]
        for split, examples in parts.items()
    }
    text = Value("string")
    features = Features({"id": text, "skill": text, "messages": [{"role": text, "content": text}]})
    DatasetDict({split: Dataset.from_list(of, features) for split, of in rows.items()}).save_to_disk(out)
    return sorted(path for path in out.rglob("*") if path.is_file())


def _write_lines(parts: Parts, out: Path, row: Callable[[Example], Row]) -> list[Path]:
    written = []
    for split, examples in parts.items():
        lines = (json.dumps(row(example), ensure_ascii=False) for example in examples)
        written.append(out / f"{split}.jsonl")
        artifacts.write_text(written[-1], "".join(f"{line}\n" for line in lines))
    return written


def _write_info(out: Path, told: Mapping[str, Any]) -> Path:
    """``dataset_info.json``, by which LLaMA-Factory finds the files as ``opstune_train`` and so on."""
    info = {f"opstune_{split}": {"file_name": f"{split}.jsonl", **told} for split in SPLITS}
    artifacts.write_text(out / "dataset_info.json", json.dumps(info, indent=1))
    return out / "dataset_info.json"


_WRITERS: dict[Format, Callable[[Parts, Path], list[Path]]] = {
    "messages": _write_messages,
    "alpaca": _write_alpaca,
    "sharegpt": _write_sharegpt,
    "huggingface": _write_huggingface,
    "csv": _write_csv,
}
