"""The base with an adapter on it: fresh, or the parent's that goes on learning."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from opstune.errors import ConfigError
from opstune.train.machine import Means
from opstune.train.spec import Spec


def load(spec: Spec, means: Means) -> tuple[Any, Any]:
    """(model with adapter, tokenizer) of a spec, the same for the same seed.

    Raises:
        ConfigError: the parent's adapter has another shape than the profile says.
    """
    set_seed(spec.seed)  # a fresh adapter begins with random numbers
    tokenizer = AutoTokenizer.from_pretrained(spec.base, local_files_only=True)
    asked: dict[str, Any] = {"dtype": means.weights, "local_files_only": True}
    if spec.method == "qlora":
        asked["quantization_config"] = _nf4(means)
    base = AutoModelForCausalLM.from_pretrained(spec.base, **asked)
    if spec.method == "qlora":
        _keep_in_place(base)
    if spec.parent is None:
        return get_peft_model(base, _lora(spec)), tokenizer
    model = PeftModel.from_pretrained(base, spec.parent, is_trainable=True, local_files_only=True)
    config = model.peft_config["default"]
    if (config.r, config.lora_alpha) != (spec.lora.rank, spec.lora.alpha):
        what = f"the parent's adapter has rank {config.r} and alpha {config.lora_alpha}"
        asked_for = f"the profile {spec.profile} has {spec.lora.rank} and {spec.lora.alpha}"
        raise ConfigError(f"{what}, {asked_for}", "profile", "Run a full retrain, or set the profile back.")
    return model, tokenizer


def _lora(spec: Spec) -> LoraConfig:
    return LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=spec.lora.target,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _nf4(means: Means) -> Any:
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if means.bf16 else means.weights
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _keep_in_place(model: Any) -> None:
    """On an AVX512-BF16 processor bitsandbytes repacks weights at the first evaluation; gradients are then wrong."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
