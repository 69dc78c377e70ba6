"""What LLaMA-Factory is given: our examples as alpaca with ``dataset_info.json``, and its YAML, from a spec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opstune.artifacts import write_text
from opstune.errors import ConfigError
from opstune.examples import Example
from opstune.train.examples import Tokenised, texts, tokenise
from opstune.train.machine import Means
from opstune.train.spec import Spec

DATASET = "opstune_train"
_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output"}


@dataclass(frozen=True)
class Files:
    """Where a training of LLaMA-Factory has its files, all below one folder."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def yaml(self) -> Path:
        return self.folder / "train.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "output"


def write_data(folder: Path, examples: Sequence[Example], tokenizer: Any, max_length: int) -> Tokenised:
    """Write every example that fits as an alpaca row, and say what was written.

    The instruction is the whole prompt as the base's own chat template renders it, and the output the answer with
    its end of text. LLaMA-Factory's template ``empty`` adds nothing to either and tokenises the two apart, so it
    trains on our tokens exactly; its named templates also learn what follows the end of text, and each would
    have to be chosen by family. It cuts a longer example, which would lose its answer: those are left out here.

    Raises:
        DataError: an example cannot become a prompt (it is named), or none fits.
        ConfigError: LLaMA-Factory would make other tokens of an example than we do.
    """
    found = tokenise(examples, tokenizer, max_length)
    left_out = set(found.too_long)
    rows = [_alpaca(example, tokenizer) for example in examples if example.id not in left_out]
    _hold_against(found, rows, tokenizer)
    write_text(folder / "train.jsonl", "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    info = {DATASET: {"file_name": "train.jsonl", "columns": _COLUMNS}}
    write_text(folder / "dataset_info.json", json.dumps(info, indent=1))
    return found


def _hold_against(found: Tokenised, rows: Sequence[dict[str, str]], tokenizer: Any) -> None:
    """Prompt and answer, each tokenised alone as the template ``empty`` does, are our tokens of the example."""
    ours = {"instruction": [row.ids[: row.answer] for row in found.rows]}
    ours["output"] = [row.ids[row.answer :] for row in found.rows]
    for field, ids in ours.items():
        if tokenizer([row[field] for row in rows], add_special_tokens=False)["input_ids"] != ids:
            todo = "Train this base with the backend trl: its tokenizer reads an answer otherwise alone than in place."
            raise ConfigError("LLaMA-Factory would train on other tokens than opstune asks with", "tokenizer", todo)


def _alpaca(example: Example, tokenizer: Any) -> dict[str, str]:
    prompt, answer = texts(example, tokenizer)
    end: str = tokenizer.eos_token
    return {"instruction": prompt, "input": "", "output": answer.partition(end)[0] + end}


def arguments(spec: Spec, files: Files, base: Path, means: Means, resume: Path | None) -> dict[str, Any]:
    """The YAML of ``llamafactory-cli train``, as a mapping.

    Args:
        base: the base's folder, or a copy of it in this machine's precision.
        resume: the checkpoint to go on from.
    """
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": str(spec.parent if spec.parent and spec.whole else base),
        "trust_remote_code": False,
        **_method(spec),
        "dataset": DATASET,
        "dataset_dir": str(files.data),
        "template": "empty",
        "cutoff_len": spec.max_length,
        "overwrite_cache": True,
        "output_dir": str(files.output),
        "num_train_epochs": spec.epochs,
        "max_steps": spec.max_steps or -1,
        "per_device_train_batch_size": spec.batch_size,
        "gradient_accumulation_steps": spec.accumulation,
        "learning_rate": spec.peak_rate,
        "lr_scheduler_type": spec.schedule,
        "warmup_steps": spec.warmup,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "optim": means.optimiser,
        "bf16": means.bf16,
        "fp16": means.precision == "float16",
        "use_cpu": not means.cuda,
        "disable_gradient_checkpointing": not spec.activation_checkpointing,
        "flash_attn": "sdpa",
        "seed": spec.seed,
        "data_seed": spec.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if spec.checkpoint_steps else "no",
        "save_steps": spec.checkpoint_steps,
        "resume_from_checkpoint": str(resume) if resume else None,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": means.cuda,
        "report_to": "none",
        "disable_tqdm": True,
    }


def _method(spec: Spec) -> dict[str, Any]:
    """The method in LLaMA-Factory's words; an adapter goes on from the parent's, where there is one."""
    if spec.method == "full":
        return {"finetuning_type": "full"}
    if spec.freeze is not None:
        return {"finetuning_type": "freeze", "freeze_trainable_layers": spec.freeze.layers}
    assert spec.lora is not None
    told: dict[str, Any] = {
        "finetuning_type": "lora",
        "lora_rank": spec.lora.rank,
        "lora_alpha": spec.lora.alpha,
        "lora_dropout": spec.lora.dropout,
        "lora_target": "all" if isinstance(spec.lora.target, str) else ",".join(spec.lora.target),
    }
    if spec.parent is not None:
        told |= {"adapter_name_or_path": str(spec.parent), "create_new_adapter": False}
    if spec.method == "qlora":
        told |= {"quantization_bit": 4, "quantization_type": "nf4", "double_quantization": True}
    return told
