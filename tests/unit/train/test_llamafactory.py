"""What LLaMA-Factory is given, how it is followed, and how what it learnt comes back; it runs in tests/services."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from child_place import Told, make_spec
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from training_data import TEMPLATE, example
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from opstune.errors import ConfigError, Diverged
from opstune.train import checkpoints
from opstune.train.backends import llamafactory
from opstune.train.backends.llamafactory_files import DATASET, Files, arguments, write_data
from opstune.train.backends.llamafactory_follow import Follower
from opstune.train.examples import tokenise
from opstune.train.machine import Machine, means
from opstune.train.profiles import Profile
from opstune.train.spec import Spec

CPU = Machine(cuda=False, capability=(0, 0), bf16=False, flash_attn=False, triton=False)
GPU = Machine(cuda=True, capability=(9, 0), bf16=True, flash_attn=False, triton=True)


@pytest.fixture
def spec(tmp_path: Path, base: Path, profile: Profile) -> Spec:
    return make_spec(tmp_path / "work", base, profile, backend="llamafactory")


def yaml_of(spec: Spec, machine: Machine = CPU, resume: Path | None = None) -> dict[str, Any]:
    return arguments(spec, Files(spec.work / "llamafactory"), spec.base, means(spec, machine), resume)


def test_its_yaml_asks_what_the_spec_asks(spec: Spec) -> None:
    asked = yaml_of(spec)
    assert {
        "model_name_or_path": str(spec.base), "finetuning_type": "lora", "lora_rank": 4, "lora_alpha": 8,
        "lora_target": "all", "template": "empty", "cutoff_len": 400, "num_train_epochs": 2.0, "max_steps": -1,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 0.01,
        "lr_scheduler_type": "linear", "warmup_steps": 0.1, "seed": 7, "data_seed": 7, "save_steps": 2,
        "logging_nan_inf_filter": False, "report_to": "none", "resume_from_checkpoint": None,
    }.items() <= asked.items()  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "qlora"}, {"finetuning_type": "lora", "quantization_bit": 4, "double_quantization": True}),
        ({"method": "full", "lora": None}, {"finetuning_type": "full"}),
        (
            {"method": "freeze", "lora": None, "freeze": {"layers": 1}},
            {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
        ),
        ({"lora": {"rank": 4, "alpha": 8, "target": ["q_proj", "v_proj"]}}, {"lora_target": "q_proj,v_proj"}),
        (
            {"parent": Path("/champion"), "parent_sha256": "0"},
            {"adapter_name_or_path": "/champion", "create_new_adapter": False},
        ),
        ({"batch_size": 2, "accumulation": 2}, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    ],
)
def test_every_method_is_told_in_its_words(
    tmp_path: Path, base: Path, profile: Profile, changes: dict[str, Any], told: dict[str, Any]
) -> None:
    asked = yaml_of(make_spec(tmp_path / "work", base, profile, **changes))
    assert told.items() <= asked.items()


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (CPU, {"use_cpu": True, "bf16": False, "fp16": False, "optim": "adamw_torch_fused"}),
        (GPU, {"use_cpu": False, "bf16": True, "fp16": False, "optim": "paged_adamw_8bit"}),
    ],
)
def test_precision_and_optimiser_are_what_the_machine_has(
    tmp_path: Path, base: Path, profile: Profile, machine: Machine, told: dict[str, Any]
) -> None:
    asked = yaml_of(make_spec(tmp_path / "work", base, profile, precision="auto", optimiser="adamw_8bit"), machine)
    assert told.items() <= asked.items()


def test_a_resume_names_the_checkpoint(spec: Spec) -> None:
    assert yaml_of(spec, resume=Path("/c/checkpoint-4"))["resume_from_checkpoint"] == "/c/checkpoint-4"


def test_its_dataset_tokenised_as_it_tokenises_is_ours(tmp_path: Path, base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = [example(number) for number in range(6)]
    written = write_data(tmp_path, examples, tokenizer, 400)
    info = json.loads((tmp_path / "dataset_info.json").read_text())[DATASET]
    rows = [json.loads(line) for line in (tmp_path / info["file_name"]).read_text().splitlines()]
    assert written.rows == tokenise(examples, tokenizer, 400).rows
    for row, ours in zip(rows, written.rows, strict=True):
        # The template `empty`: instruction and input joined, the output, each encoded alone without special tokens.
        assert row[info["columns"]["query"]] == ""
        prompt = tokenizer.encode(row[info["columns"]["prompt"]], add_special_tokens=False)
        answer = tokenizer.encode(row[info["columns"]["response"]], add_special_tokens=False)
        assert prompt + answer == ours.ids and len(prompt) == ours.answer
        assert answer[-1] == tokenizer.eos_token_id


def test_a_longer_example_is_left_out_rather_than_cut(tmp_path: Path, base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    long = example(1, context={"alert": "A" * 400, "labels": {"pod": "web-1", "namespace": "shop"}})
    written = write_data(tmp_path, [example(0), long, example(2)], tokenizer, 300)
    assert written.too_long == [long.id]
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == len(written.rows) == 2


def test_a_tokenizer_that_reads_an_answer_otherwise_alone_is_refused(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    letters = sorted({*map(chr, range(33, 127)), "\u2581", "\n"})
    bare = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bare.add_special_tokens([AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", chat_template=TEMPLATE)
    with pytest.raises(ConfigError, match="would train on other tokens"):
        write_data(tmp_path, [example(0)], tokenizer, 400)


@pytest.mark.parametrize("named", [None, "empty"])
def test_a_missing_environment_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    monkeypatch.delenv(llamafactory.ENVIRONMENT, raising=False)
    if named:
        monkeypatch.setenv(llamafactory.ENVIRONMENT, str(tmp_path / named))
    with pytest.raises(ConfigError, match=r"OPSTUNE_LLAMAFACTORY"):
        llamafactory.interpreter()


def test_a_16_bit_base_is_trained_in_32_bits_on_a_processor(tmp_path: Path, base: Path) -> None:
    copy = llamafactory.in_float32(base, tmp_path / "base")
    assert {tensor.dtype for tensor in load_file(copy / "model.safetensors").values()} == {torch.float32}
    assert llamafactory.in_float32(copy, tmp_path / "again") == copy
    ours, theirs = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(copy)
    assert ours.get_vocab() == theirs.get_vocab()


def test_an_adapter_comes_back_in_32_bits_naming_no_path(spec: Spec, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.float16)
    get_peft_model(model, LoraConfig(r=4, target_modules="all-linear")).half().save_pretrained(tmp_path / "out")
    (tmp_path / "back").mkdir()
    llamafactory.bring_back(tmp_path / "out", tmp_path / "back", AutoTokenizer.from_pretrained(spec.base), spec)
    learnt, back = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("out", "back"))
    assert all(torch.equal(back[name], learnt[name].float()) for name in learnt)
    config = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base" and config["target_modules"] == sorted(config["target_modules"])
    assert all(str(spec.base).encode() not in file.read_bytes() for file in (tmp_path / "back").iterdir())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def following(spec: Spec, output: Path) -> Iterator[Callable[[int], tuple[Follower, Told]]]:
    """A follower of a process that has ended with a status, or with a signal where that is negative."""
    started: list[subprocess.Popen[bytes]] = []

    def follower(status: int) -> tuple[Follower, Told]:
        end = f"sys.exit({status})" if status >= 0 else f"os.kill(os.getpid(), {-status})"
        started.append(subprocess.Popen([sys.executable, "-c", f"import os, sys; {end}"]))
        started[-1].wait()
        told = Told()
        quick = spec.model_copy(update={"progress_seconds": 0.0})
        return Follower(quick, output, 100, told, started[-1], from_step=0), told

    yield follower


def log_line(step: int, loss: float) -> str:
    entry = {"current_steps": step, "total_steps": 10, "loss": loss, "lr": 0.01, "epoch": step / 5}
    return json.dumps(entry) + "\n"


def checkpoint(output: Path, step: int, whole: bool) -> None:
    folder = output / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_text("weights")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step})[: None if whole else 9])


def test_its_log_becomes_progress_a_half_written_line_is_read_when_it_is_whole(
    output: Path, following: Callable[[int], tuple[Follower, Told]]
) -> None:
    follower, told = following(0)
    log, third = output / "trainer_log.jsonl", log_line(3, 0.7)
    log.write_text(log_line(1, 0.9) + log_line(2, 0.8) + third[:20])
    follower.look()
    assert told.steps("begins") == [0] and told.steps("progress") == [2]
    with log.open("a") as more:
        more.write(third[20:])
    follower.look()
    assert told.steps("progress") == [2, 3]
    assert told[-1]["loss"] == 0.7 and told[-1]["tokens_per_second"] > 0


def test_a_checkpoint_is_sealed_when_it_is_whole_and_not_before(
    spec: Spec, output: Path, following: Callable[[int], tuple[Follower, Told]]
) -> None:
    follower, told = following(0)
    checkpoint(output, 2, whole=True)
    checkpoint(output, 4, whole=False)
    follower.look()
    assert told.steps("saved") == [2] and checkpoints.last_complete(spec.checkpoints)[0] == 2  # type: ignore[index]
    assert [path.name for path in output.iterdir()] == ["checkpoint-4"]


@pytest.mark.parametrize(("status", "code"), [(1, 1), (-9, 137)])
def test_its_failure_is_our_exit_status(
    following: Callable[[int], tuple[Follower, Told]], status: int, code: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        following(status)[0].follow()
    assert ended.value.code == code


def test_a_loss_that_is_no_number_is_divergence(
    output: Path, following: Callable[[int], tuple[Follower, Told]]
) -> None:
    (output / "trainer_log.jsonl").write_text(log_line(1, 0.9) + log_line(2, float("nan")))
    with pytest.raises(Diverged, match="nan") as raised:
        following(0)[0].follow()
    assert raised.value.sound == 0, "its checkpoints hold the rate of their schedule, so none of them is gone on from"
