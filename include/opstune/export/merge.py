"""Merge an adapter into the base it was trained on: for an NF4 run that is the dequantised base.

An adapter learns to correct the weights it saw. Merged into the dequantised base the result is what
was trained (KL 1e-9); merged into the original 16-bit weights it is not (1e-2), and loses points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

#: Above this many bytes of weights the merge works in 16 bits, to halve its memory.
_LARGE = 4 * 1024**3


def merge(base: Path, adapter: Path, out: Path, nf4: bool) -> None:
    """Write the merged model and the adapter's tokenizer to ``out``, in fp32 (fp16 for large models)."""
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    dtype = torch.float32 if size < _LARGE else torch.float16
    merged = PeftModel.from_pretrained(_load(base, dtype, nf4), str(adapter)).merge_and_unload()
    merged.save_pretrained(out)
    AutoTokenizer.from_pretrained(adapter).save_pretrained(out)


def _load(base: Path, dtype: torch.dtype, nf4: bool) -> Any:
    if not nf4:
        return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    # As train quantises: NF4 with its constants quantised too.
    seen = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, quantization_config=seen, device_map={"": "cpu"})
    return model.dequantize()
