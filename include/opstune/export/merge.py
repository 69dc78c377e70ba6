"""The model that is converted: an adapter merged into the base it was trained on, or whole weights as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer

from opstune.engines.weights import is_adapter, load

#: Above this many bytes of weights the merge works in 16 bits, to halve its memory.
_LARGE = 4 * 1024**3


def merge(base: Path, trained: Path, out: Path, nf4: bool) -> Path:
    """The folder of the whole model: ``out``, in fp32 (fp16 for large models), or ``trained`` where it is whole."""
    if not is_adapter(trained):
        return trained
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    dtype = torch.float32 if size < _LARGE else torch.float16
    load(base, trained, dtype, nf4=nf4).save_pretrained(out)
    AutoTokenizer.from_pretrained(trained).save_pretrained(out)
    return out
