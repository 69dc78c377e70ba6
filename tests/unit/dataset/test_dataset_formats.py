"""Exports, each read by its own consumer's loader."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from opstune import dataset
from opstune.artifacts import Ref
from opstune.dataset.split import SPLITS
from opstune.errors import DataError
from opstune.examples import Example
from opstune.skills import get
from opstune.skills.base import SYSTEM, messages, target
from opstune.tables import read_examples

ROOT = Path(__file__).parents[3]
BASE = ROOT / "include" / "models" / "tiny-ops"
LLAMA_FACTORY = "OPSTUNE_LLAMAFACTORY"


@pytest.fixture
def built(tmp_path: Path, many: Any, take: Any, settings: Any) -> Ref:
    """A dataset whose texts hold quotes, line breaks, separators and other scripts, one class repeated."""
    hostile = 'a "quoted", comma\nline — <|im_end|> ünïcode 日本 \\n {"json": 1}'
    rows = [
        row.model_copy(update={"context": {**row.context, "title": f"{hostile} {row.source_id}"}})
        if row.skill == "triage"
        else row
        for row in many(300)
    ]
    weighted = settings.model_copy(update={"weights": {"triage/SEV-1": 2.0}})
    return dataset.build(tmp_path / "ds", take(rows), tmp_path / "splits.parquet", weighted, "full")


def rows_of(ref: Ref) -> dict[str, list[Example]]:
    return {split: read_examples(ref.path / f"{split}.parquet") for split in SPLITS}


def chat_of(example: Example) -> list[dict[str, str]]:
    """What is trained on: the skill's messages, then the answer."""
    asked = messages(get(example.skill), example.context)
    return [*asked, {"role": "assistant", "content": target(example.answer)}]


def lines(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """``datasets.load_dataset`` on local files, cached for this test alone."""
    from datasets import load_dataset

    def load(kind: str, folder: Path, suffix: str) -> Any:
        files = {split: str(folder / f"{split}.{suffix}") for split in SPLITS}
        return load_dataset(kind, data_files=files, cache_dir=str(tmp_path / "cache"))

    return load


def test_messages_load_as_the_chats_that_are_trained_on(tmp_path: Path, built: Ref, load: Any) -> None:
    dataset.export(built, tmp_path / "out", "messages")
    loaded = load("json", tmp_path / "out", "jsonl")
    for split, examples in rows_of(built).items():
        assert [row["messages"] for row in loaded[split]] == [chat_of(example) for example in examples]


def test_alpaca_joins_to_the_chats_that_are_trained_on(tmp_path: Path, built: Ref, load: Any) -> None:
    dataset.export(built, tmp_path / "out", "alpaca")
    loaded = load("json", tmp_path / "out", "jsonl")
    for split, examples in rows_of(built).items():
        joined = [[row["system"], f"{row['instruction']}\n{row['input']}", row["output"]] for row in loaded[split]]
        assert joined == [[message["content"] for message in chat_of(example)] for example in examples]


def test_sharegpt_loads_as_the_chats_that_are_trained_on(tmp_path: Path, built: Ref, load: Any) -> None:
    dataset.export(built, tmp_path / "out", "sharegpt")
    loaded = load("json", tmp_path / "out", "jsonl")
    for split, examples in rows_of(built).items():
        said = [[row["system"], *(turn["value"] for turn in row["conversations"])] for row in loaded[split]]
        assert said == [[message["content"] for message in chat_of(example)] for example in examples]
        assert {turn["from"] for row in loaded[split] for turn in row["conversations"]} == {"human", "gpt"}


def test_a_hugging_face_dataset_loads_from_disk(tmp_path: Path, built: Ref) -> None:
    from datasets import load_from_disk

    dataset.export(built, tmp_path / "out", "huggingface")
    loaded = load_from_disk(str(tmp_path / "out"))
    assert set(loaded) == set(SPLITS)
    for split, examples in rows_of(built).items():
        assert loaded[split]["id"][:] == [example.id for example in examples]
        assert loaded[split]["skill"][:] == [example.skill for example in examples]
        assert [row["messages"] for row in loaded[split]] == [chat_of(example) for example in examples]


def test_a_hugging_face_dataset_is_written_again_over_its_like_only(tmp_path: Path, built: Ref) -> None:
    first = dataset.export(built, tmp_path / "out", "huggingface")
    assert dataset.export(built, tmp_path / "out", "huggingface") == first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(DataError, match="not empty"):
        dataset.export(built, tmp_path / "mine", "huggingface")


def test_csv_loads_with_texts_intact(tmp_path: Path, built: Ref, load: Any) -> None:
    dataset.export(built, tmp_path / "out", "csv")
    loaded = load("csv", tmp_path / "out", "csv")
    for split, examples in rows_of(built).items():
        assert loaded[split]["id"][:] == [example.id for example in examples]
        told = [[row["system"], row["prompt"], row["answer"]] for row in loaded[split]]
        assert told == [[message["content"] for message in chat_of(example)] for example in examples]


@pytest.mark.parametrize(
    ("format", "files"),
    [
        ("messages", {"train.jsonl", "validation.jsonl", "test.jsonl"}),
        ("alpaca", {"train.jsonl", "validation.jsonl", "test.jsonl", "dataset_info.json"}),
        ("sharegpt", {"train.jsonl", "validation.jsonl", "test.jsonl", "dataset_info.json"}),
        ("csv", {"train.csv", "validation.csv", "test.csv"}),
        ("huggingface", {"dataset_dict.json", "train/dataset_info.json", "test/dataset_info.json"}),
    ],
)
def test_the_command_line_writes_every_format_and_names_the_files(
    tmp_path: Path, built: Ref, format: str, files: set[str]
) -> None:
    from typer.testing import CliRunner

    from opstune.cli import app

    out = tmp_path / "out"
    asked = ["dataset", "export", str(built.path), str(out), "--format", format, "--json"]
    told = CliRunner().invoke(app, asked, catch_exceptions=False)
    named = json.loads(told.stdout)
    assert files <= set(named["files"])
    assert all((out / name).is_file() for name in named["files"])


@pytest.mark.parametrize("format", ["messages", "huggingface"])
def test_trl_prepares_chats_as_it_trains_on_them(tmp_path: Path, built: Ref, format: Any, load: Any) -> None:
    """SFTTrainer itself tokenises the export; every answer stands in it, behind its prompt."""
    from datasets import load_from_disk
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
    from trl import SFTConfig, SFTTrainer

    dataset.export(built, tmp_path / "out", format)
    folder = tmp_path / "out"
    loaded = load_from_disk(str(folder)) if format == "huggingface" else load("json", folder, "jsonl")
    train = loaded["train"].select_columns(["messages"])
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, **small))
    asked = SFTConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False, max_length=None)
    trainer = SFTTrainer(model, asked, train_dataset=train, processing_class=tokenizer)
    prepared = trainer.train_dataset["input_ids"][:]
    for ids, example in zip(prepared, rows_of(built)["train"], strict=True):
        assert tokenizer.decode(ids) == tokenizer.apply_chat_template(chat_of(example), tokenize=False)


@pytest.mark.parametrize(
    ("format", "told"),
    [
        ("alpaca", {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}}),
        (
            "sharegpt",
            {
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system"},
                "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
            },
        ),
    ],
)
def test_dataset_info_declares_every_file_and_its_columns(
    tmp_path: Path, built: Ref, format: Any, told: dict[str, Any]
) -> None:
    """As LLaMA-Factory's data/README.md documents the keys."""
    dataset.export(built, tmp_path / "out", format)
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info == {f"opstune_{split}": {"file_name": f"{split}.jsonl", **told} for split in SPLITS}
    for entry in info.values():
        rows = lines(tmp_path / "out" / entry["file_name"])
        assert all(set(entry["columns"].values()) <= set(row) for row in rows)


_READ = """
import json, sys
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments, ModelArguments, get_train_args
from transformers import AutoTokenizer

folder, base, out = sys.argv[1:]
model, data, training, _, _ = get_train_args({
    "model_name_or_path": base, "template": "chatml", "stage": "sft", "do_train": True, "finetuning_type": "lora",
    "dataset": "opstune_train", "dataset_dir": folder, "output_dir": out, "cutoff_len": 4096, "use_cpu": True,
    "report_to": "none", "overwrite_cache": True,
})
tokenizer = AutoTokenizer.from_pretrained(base)
template = get_template_and_fix_tokenizer(tokenizer, data)
read = get_dataset(template, model, data, training, stage="sft", tokenizer=tokenizer)["train_dataset"]
rows = [[tokenizer.decode(row["input_ids"]), tokenizer.decode([i for i in row["labels"] if i >= 0])] for row in read]
print("READ" + json.dumps(rows))
"""


@pytest.mark.parametrize("format", ["alpaca", "sharegpt"])
def test_llama_factory_reads_the_folder(tmp_path: Path, built: Ref, format: Any) -> None:
    beside = Path(os.environ["OPSTUNE_TOOLS"]) / "llamafactory-venv"
    python = Path(os.environ.get(LLAMA_FACTORY, beside)) / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"make LLaMA-Factory's environment with .ci/llamafactory, or name its folder in {LLAMA_FACTORY}")
    dataset.export(built, tmp_path / "out", format)
    # LLaMA-Factory imports torchaudio and needs nothing of it for text.
    (tmp_path / "stand-in" / "torchaudio").mkdir(parents=True)
    (tmp_path / "stand-in" / "torchaudio" / "__init__.py").touch()
    environment = {
        **os.environ, "PYTHONPATH": str(tmp_path / "stand-in"), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip
    command = [str(python), "-c", _READ, str(tmp_path / "out"), str(BASE), str(tmp_path / "trained")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.rpartition("READ")[2])
    examples = rows_of(built)["train"]
    assert len(read) == len(examples)
    for (text, label), example in zip(read, examples, strict=True):
        asked = get(example.skill).render(example.context)
        assert text.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{asked}<|im_end|>\n")
        assert label.removesuffix("\n") == f"{target(example.answer)}<|im_end|>"
