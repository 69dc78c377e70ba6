"""What this machine can train with, by what it says it can do: a timing might decide otherwise on a resume."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from opstune.train.spec import Spec


@dataclass(frozen=True)
class Means:
    """How a spec is carried out here. ``turned_off`` names in words what the profile asks and this machine cannot."""

    cuda: bool
    threads: int
    bf16: bool
    weights: torch.dtype
    optimiser: str
    turned_off: tuple[str, ...]


def means(spec: Spec) -> Means:
    """The means for a spec. On a GPU everything is as the profile says."""
    if torch.cuda.is_available():
        optimiser = "paged_adamw_8bit" if spec.optimiser == "adamw_8bit" else "adamw_torch_fused"
        bf16 = torch.cuda.is_bf16_supported()
        weights = torch.bfloat16 if bf16 else torch.float16
        return Means(True, cores(), bf16, weights, optimiser, ())
    bf16, off = fast_bf16(), []
    if spec.optimiser == "adamw_8bit":
        off.append("8-bit optimiser (plain AdamW instead)")
    if not bf16:
        off.append("bfloat16 (this processor emulates it, 12 times slower than float32)")
    return Means(False, cores(), bf16, torch.float32, "adamw_torch_fused", tuple(off))


def cores() -> int:
    """Processor cores that this process may use; a smaller OMP_NUM_THREADS is respected."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdigit() and int(asked) else available


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
