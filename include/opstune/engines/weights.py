"""What a training leaves, as one model: an adapter merged into the base that it learnt on, or whole weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D


def is_adapter(trained: Path) -> bool:
    """Whether a folder holds an adapter; full and freeze leave whole weights."""
    return (trained / "adapter_config.json").is_file()


def learnt_on_nf4(trained: Path) -> bool:
    """Whether a training says that its base was in 4 bits."""
    file = trained / "training.json"
    return file.is_file() and json.loads(file.read_text()).get("method") == "qlora"


def load(base: Path, trained: Path | None, dtype: torch.dtype, *, nf4: bool = False) -> Any:
    """The base, or what was trained from it, as one transformers model.

    An adapter learns to correct the weights it saw. Merged into the dequantised base the result is what was
    trained (KL 1e-9); merged into the original 16-bit weights it is not (1e-2), and loses points.

    Args:
        nf4: the adapter learnt on the base in 4 bits.
    """
    if trained is not None and not is_adapter(trained):
        return AutoModelForCausalLM.from_pretrained(trained, dtype=dtype, local_files_only=True)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, local_files_only=True)
    if trained is None:
        return network
    if nf4:
        _round_as_nf4(network, base)
    return PeftModel.from_pretrained(network, str(trained), local_files_only=True).merge_and_unload()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model's folder, which reads the same again after it was saved.

    transformers 5.23 saves a Llama tokenizer without its ``legacy``: one that sets a space after every control token,
    as Yi's does, would set none when it is loaded again, and the model would be asked in other tokens than it learnt.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if getattr(tokenizer, "legacy", False):
        tokenizer.init_kwargs["legacy"] = True
    return tokenizer


def nf4_config(compute: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with its constants quantised too (Dettmers et al., QLoRA, 2023): 4.13 bits a weight."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _round_as_nf4(network: Any, base: Path) -> None:
    """Give every matrix the value it has in 4 bits.

    ``dequantize()`` of transformers would leave GPT-2's Conv1D layers transposed, as bitsandbytes holds them.
    """
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    config = nf4_config(torch.float32)
    quantised = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"}, local_files_only=True
    )
    for name, module in quantised.named_modules():
        if isinstance(module, Linear4bit):
            layer = network.get_submodule(name)
            weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
            layer.weight.data.copy_(weight.T if isinstance(layer, Conv1D) else weight)
