"""What this machine can train with, by what it says it can do: a timing might decide otherwise on a resume."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from opstune.train import apart
from opstune.train.spec import Spec

#: flash-attn's kernels are written for Ampere and later.
_FLASH_CAPABILITY = (8, 0)
#: What a profile calls a kernel, and what transformers does.
KERNELS = {"eager": "eager", "sdpa": "sdpa", "flash": "flash_attention_2", "flex": "flex_attention"}


@dataclass(frozen=True)
class Machine:
    """What a machine has. ``capability`` is the GPU's, (0, 0) where there is none; ``bf16`` is in hardware."""

    cuda: bool
    capability: tuple[int, int]
    bf16: bool
    flash_attn: bool
    triton: bool


@dataclass(frozen=True)
class Means:
    """How a spec is carried out here.

    ``attention`` is transformers' name of the kernel, or none for the architecture's own choice. ``turned_off``
    names in words what the profile asks and this machine cannot.
    """

    cuda: bool
    threads: int
    bf16: bool
    weights: torch.dtype
    optimiser: str
    attention: str | None
    packing: bool
    turned_off: tuple[str, ...]

    @property
    def precision(self) -> str:
        """Of the multiplications, as torch calls it."""
        return str(torch.bfloat16 if self.bf16 else self.weights).removeprefix("torch.")


def look() -> Machine:
    """What this machine has."""
    flash, triton = find_spec("flash_attn") is not None, find_spec("triton") is not None
    if torch.cuda.is_available():
        return Machine(True, torch.cuda.get_device_capability(), torch.cuda.is_bf16_supported(), flash, triton)
    return Machine(False, (0, 0), fast_bf16(), flash, triton)


def means(spec: Spec, machine: Machine | None = None) -> Means:
    """The means for a spec on a machine, on this one unless told otherwise."""
    found = machine or look()
    attention, packing, off = _attention(spec, found)
    exact = spec.precision == "float32"
    bf16 = found.bf16 and not exact
    if found.cuda:
        optimiser = "paged_adamw_8bit" if spec.optimiser == "adamw_8bit" else "adamw_torch_fused"
        short = torch.bfloat16 if bf16 else torch.float16
        weights = torch.float32 if exact else short
        return Means(True, cores(), bf16, weights, optimiser, attention, packing, tuple(off))
    if spec.optimiser == "adamw_8bit":
        off.append("8-bit optimiser (plain AdamW instead)")
    if not found.bf16 and not exact:
        off.append("bfloat16 (this processor emulates it, 12 times slower than float32)")
    return Means(False, cores(), bf16, torch.float32, "adamw_torch_fused", attention, packing, tuple(off))


def _attention(spec: Spec, machine: Machine) -> tuple[str | None, bool, list[str]]:
    """(kernel, packing, what is off): the profile's wishes, held against what the machine has.

    ``auto`` packs with flash-attn, or attends to one example after the other (``apart``): under sdpa itself a packed
    part needs a mask of tokens by tokens, which costs a GPU PyTorch's own flash kernel and, at 16,384 tokens of an
    8B model, half as many operations again as the weights do.
    """
    missing = {"flash": _flash_missing(spec, machine), "flex": _flex_missing(machine)}
    asked, off = spec.attention, []
    if reason := missing.get(asked):
        off.append(f"{asked} attention ({reason}; the base's default instead)")
        asked = "auto"
    if asked != "auto":
        return KERNELS[asked], spec.packing, off
    if not spec.packing:
        return None, False, off
    return (apart.NAME if missing["flash"] else KERNELS["flash"]), True, off


def _flash_missing(spec: Spec, machine: Machine) -> str:
    if not machine.cuda:
        return "it needs a GPU"
    if spec.precision == "float32":
        return "it computes in 16 bits, and the profile asks for float32"
    if machine.capability < _FLASH_CAPABILITY:
        return "this GPU is older than compute capability 8.0, which flash-attn needs"
    return "" if machine.flash_attn else "flash-attn is not installed"


def _flex_missing(machine: Machine) -> str:
    if not machine.cuda:
        return "it needs a GPU"
    return "" if machine.triton else "it is compiled by Triton, which is not installed"


def take(means: Means) -> None:
    """Use the processor's cores, and of several GPUs this process's own: 4-bit weights are made on the current one."""
    torch.set_num_threads(means.threads)
    if means.cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def cores() -> int:
    """Processor cores that this process may use; a smaller OMP_NUM_THREADS is respected."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdigit() and int(asked) else available


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
