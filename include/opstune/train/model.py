"""What learns: an adapter on the frozen base, or the base's own weights; fresh, or the parent's that go on learning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from opstune.engines.weights import is_adapter, nf4_config
from opstune.errors import ConfigError
from opstune.train import result
from opstune.train.chats import tokenizer_of
from opstune.train.machine import Means
from opstune.train.spec import Spec


def load(spec: Spec, means: Means) -> tuple[Any, Any]:
    """(model, tokenizer) of a spec, the same for the same seed; what learns requires gradients.

    Raises:
        ConfigError: the parent does not fit the profile, or the profile does not fit the base.
    """
    set_seed(spec.seed)  # a fresh adapter begins with random numbers
    if spec.parent is not None:
        _check_parent(spec, spec.parent)
    tokenizer = tokenizer_of(spec)
    model = _whole(spec, means) if spec.whole else _adapted(spec, means)
    positions = getattr(model.config, "max_position_embeddings", spec.max_length)
    if spec.max_length > positions:
        what = f"max_length is {spec.max_length}, and {spec.base_name} has {positions} positions"
        raise ConfigError(what, f"profile {spec.profile}", f"Set max_length to {positions} or less.")
    return model, tokenizer


def save(model: Any, folder: Path, spec: Spec) -> None:
    """Write the adapter (fp32), or the whole weights in the precision they were trained in, as safetensors."""
    if spec.whole:
        model.config.use_cache = True  # off while training, and it answers faster with it
        model.save_pretrained(folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's card names this machine's path of the base
        result.name_base(folder, spec)


def _adapted(spec: Spec, means: Means) -> Any:
    asked: dict[str, Any] = {"dtype": means.weights, "local_files_only": True, "attn_implementation": means.attention}
    if spec.method == "qlora":
        asked["quantization_config"] = nf4_config(torch.bfloat16 if means.bf16 else means.weights)
    base = AutoModelForCausalLM.from_pretrained(spec.base, **asked)
    if spec.method == "qlora":
        _keep_in_place(base)
    if spec.parent is None:
        return get_peft_model(base, _lora(spec))
    return PeftModel.from_pretrained(base, spec.parent, is_trainable=True, local_files_only=True)


def _lora(spec: Spec) -> LoraConfig:
    assert spec.lora is not None
    return LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=spec.lora.target,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _keep_in_place(model: Any) -> None:
    """On an AVX512-BF16 processor bitsandbytes repacks weights at the first evaluation; gradients are then wrong."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _whole(spec: Spec, means: Means) -> Any:
    """The weights themselves: what learns in fp32, what stays in the precision of the machine.

    bfloat16 keeps 8 bits of a weight, so a step that changes it by less than 0.2 % is rounded away, and
    AdamW's are mostly smaller: the master weights are fp32, the multiplications bfloat16 by autocast.
    """
    model = AutoModelForCausalLM.from_pretrained(
        spec.parent or spec.base, dtype=torch.float32, local_files_only=True, attn_implementation=means.attention
    )
    if spec.freeze is not None:
        model.requires_grad_(False)
        for block in _last_blocks(model, spec.freeze.layers, spec):
            block.requires_grad_(True)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(means.weights)
    return model


def blocks_of(model: Any) -> list[torch.nn.Module]:
    """The transformer blocks: the list of modules that is as long as the model is deep; none where there is none."""
    depth = model.config.num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next((list(module) for module in lists if len(module) == depth), [])


def _last_blocks(model: Any, count: int, spec: Spec) -> list[torch.nn.Module]:
    """The last transformer blocks, whose weights learn under ``freeze``."""
    blocks = blocks_of(model)
    if count > len(blocks):
        what = f"freeze.layers is {count}, and {spec.base_name} has {len(blocks)} blocks"
        raise ConfigError(what, f"profile {spec.profile}", "Set it to fewer, or choose the method full.")
    return blocks[-count:]


def _check_parent(spec: Spec, parent: Path) -> None:
    """The parent holds what the profile trains, in the same shape and on the same base."""
    todo = "Run a full retrain, or set the profile back."
    if is_adapter(parent) is spec.whole:
        found, asked = ("an adapter", "whole weights") if spec.whole else ("whole weights", "an adapter")
        raise ConfigError(f"the parent is {found}, the profile {spec.profile} trains {asked}", "profile", todo)
    told = parent / "training.json"
    if told.is_file() and json.loads(told.read_text()).get("base_sha256") not in (None, spec.base_sha256):
        raise ConfigError(f"the parent was trained on another base than {spec.base_name}", "profile", todo)
    if spec.lora is None:
        return
    config = json.loads((parent / "adapter_config.json").read_text())
    if (config["r"], config["lora_alpha"]) != (spec.lora.rank, spec.lora.alpha):
        what = f"the parent's adapter has rank {config['r']} and alpha {config['lora_alpha']}"
        asked_for = f"the profile {spec.profile} has {spec.lora.rank} and {spec.lora.alpha}"
        raise ConfigError(f"{what}, {asked_for}", "profile", todo)
