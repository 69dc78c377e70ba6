"""How fast and how large training is on a GPU: ``python -m opstune.bench.gpu [--minutes 9]``.

Models of 8B and 7B shape with random weights through opstune's own trainer: QLoRA and bfloat16 LoRA, packed and
padded, several batches. Nothing is downloaded. Without a GPU the same is done with a tiny shape, which shows that
the script works and says nothing of a GPU. Writes ``gpu.json`` into $OUT, or under OPSTUNE_HOME.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from opstune.artifacts import git_revision, write_text
from opstune.bench import shapes
from opstune.bench.shapes import LLAMA_8B, QWEN2_7B, TINY, Shape
from opstune.settings import TrainSettings
from opstune.train import machine
from opstune.train.profiles import Attention, Profile
from opstune.train.sft import AnswerTrainer
from opstune.train.spec import Spec

#: Dense bfloat16 FLOP/s by the vendors' data sheets, longest name first.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10G": 70e12,
         "L4": 121e12, "RTX 4090": 165e12}  # fmt: skip
#: A 7B QLoRA must train on a card of this many bytes.
SMALL_CARD = 24e9
_EFFECTIVE, _TINY_EFFECTIVE, _WARM_UP, _TIMED = 64, 8, 2, 4


@dataclass(frozen=True)
class Case:
    """One way to train: ``batch_size`` x ``max_length`` tokens are in memory at once."""

    shape: Shape
    method: str
    batch_size: int
    packing: bool
    attention: Attention = "auto"
    checkpointing: bool = True
    max_length: int = 2048

    @property
    def name(self) -> str:
        laid = f"packed_{self.attention}" if self.packing else "padded"
        kept = "" if self.checkpointing else "_all_activations"
        return f"gpu_{self.shape.name}_{self.method}_{laid}_b{self.batch_size}{kept}"


@dataclass(frozen=True)
class Seen:
    """What a case cost. ``tokens_per_second`` counts no padding; ``peak`` is bytes, of the GPU where there is one."""

    tokens_per_second: float
    peak: float
    steps: int
    turned_off: tuple[str, ...]


class _Clock(TrainerCallback):  # type: ignore[misc]
    """When every step ended, and how many tokens had been trained by then."""

    def __init__(self) -> None:
        self.trainer: AnswerTrainer | None = None
        self.marks: list[tuple[float, int]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), self.trainer.tokens))


def cases(found: machine.Machine) -> Iterator[Case]:
    """What is measured, most wanted first; the tiny shape without a GPU."""
    if not found.cuda:
        for method in ("qlora", "lora"):
            yield Case(TINY, method, 4, False, max_length=256)
            yield Case(TINY, method, 4, True, "sdpa", max_length=256)
        return
    packed: Attention = "flash" if found.flash_attn else "flex"
    yield Case(QWEN2_7B, "qlora", 8, False)
    for method in ("qlora", "lora"):
        yield Case(LLAMA_8B, method, 8, False)
        yield Case(LLAMA_8B, method, 8, True, packed)
    for batch_size in (1, 2, 4, 16):
        for method in ("qlora", "lora"):
            yield Case(LLAMA_8B, method, batch_size, False)
    yield Case(LLAMA_8B, "lora", 2, False, checkpointing=False)
    yield Case(QWEN2_7B, "qlora", 8, True, packed)
    yield Case(LLAMA_8B, "lora", 8, True, "sdpa")


def measure(case: Case) -> Seen:
    """Train a few steps of a case, after two that are not counted."""
    effective = _TINY_EFFECTIVE if case.shape is TINY else _EFFECTIVE
    gc.collect()  # the last case's trainer and its model refer to each other
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(case, Path(folder), effective)
        means = machine.means(spec)
        machine.take(means)
        device = torch.device("cuda" if means.cuda else "cpu")
        base = shapes.model(case.shape, device, means.weights, means.attention, case.method == "qlora")
        assert spec.lora is not None
        lora = LoraConfig(r=spec.lora.rank, lora_alpha=spec.lora.alpha, lora_dropout=spec.lora.dropout,
                          target_modules="all-linear", task_type="CAUSAL_LM")  # fmt: skip
        rows = shapes.examples(effective * (_WARM_UP + _TIMED), case.shape.vocabulary, case.max_length)
        clock = _Clock()
        if means.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        trainer = clock.trainer = AnswerTrainer(get_peft_model(base, lora), shapes.tokenizer(), rows, spec, means)
        trainer.add_callback(clock)
        trainer.train()
        peak = torch.cuda.max_memory_reserved() if means.cuda else psutil.Process().memory_info().rss
    (began, before), (ended, after) = clock.marks[_WARM_UP - 1], clock.marks[-1]
    return Seen((after - before) / (ended - began), float(peak), len(clock.marks) - _WARM_UP, means.turned_off)


def _spec(case: Case, folder: Path, effective: int) -> Spec:
    """Production's settings: rank 16, dropout, 8-bit AdamW, cosine."""
    profile = Profile.model_validate(
        {
            "name": case.name, "base": case.shape.name, "method": case.method, "epochs": 1.0, "learning_rate": 2e-4,
            "lora": {"rank": 16, "alpha": 32, "dropout": 0.05}, "schedule": "cosine", "warmup": 0.1,
            "batch_size": case.batch_size, "accumulation": effective // case.batch_size,
            "max_length": case.max_length, "optimiser": "adamw_8bit",
            "activation_checkpointing": case.checkpointing, "attention": case.attention, "packing": case.packing,
            "incremental": {"learning_rate_factor": 1, "epochs": 1}, "needs": {"disk_gb": 0, "memory_gb": 0},
        }
    )  # fmt: skip
    named = set(Spec.model_fields)
    run = TrainSettings(checkpoint_steps=1_000_000, progress_seconds=1e9).model_dump(include=named)
    of_profile = {name: getattr(profile, name) for name in named & set(Profile.model_fields)}
    own = {
        "asked": case.name, "base": folder, "base_name": case.shape.name, "base_sha256": "", "examples": folder,
        "work": folder, "parent": None, "parent_sha256": None, "profile": case.name,
    }  # fmt: skip
    return Spec.model_validate({**run, **of_profile, **own})


def ceiling(case: Case, peak: float) -> float:
    """Tokens a second if nothing but the products took time: 4 FLOP a weight and token, 6 with checkpointing.

    The base is frozen, so its gradient is never made: 2 forwards, 2 backwards, and 2 to make activations again.
    """
    return peak / ((6 if case.checkpointing else 4) * shapes.parameters(case.shape))


def device_peak(found: machine.Machine) -> tuple[float, str]:
    """(FLOP/s, where the figure is from): the data sheet's, or what a large product reaches here."""
    if found.cuda:
        name = torch.cuda.get_device_name()
        for known, flops in PEAKS.items():
            if known in name:
                return flops, f"{name}, {flops / 1e12:,.0f} TFLOP/s by its data sheet"
    device, dtype, size = ("cuda", torch.bfloat16, 8192) if found.cuda else ("cpu", torch.float32, 1024)
    left = torch.randn(size, size, device=device, dtype=dtype)
    best = min(_seconds(left) for _ in range(10))
    flops = 2 * size**3 / best
    return flops, f"{flops / 1e12:,.3g} TFLOP/s, measured on a product of {size} x {size}"


def _seconds(left: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.matmul(left, left)
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def entry(case: Case, seen: Seen, peak: float, seconds: float, machine_name: str) -> dict[str, Any]:
    """A row of ``gpu.json``: as those of ``bench.json``, and how it was made."""
    most = ceiling(case, peak)
    return {
        "name": case.name, "value": round(seen.tokens_per_second, 1), "unit": "tokens/s", "baseline": round(most, 1),
        "ratio": seen.tokens_per_second / most, "n": seen.steps, "seconds": round(seconds, 1),
        "machine": machine_name, "revision": git_revision(), "peak_gb": round(seen.peak / 1e9, 2),
        "turned_off": list(seen.turned_off), "case": asdict(case),
    }  # fmt: skip


def main(minutes: float) -> int:
    """Measure what fits into the time, print the table as it grows, write ``gpu.json``; 1 where a promise is broken."""
    started, found = time.perf_counter(), machine.look()
    peak, source = device_peak(found)
    print(source)
    if not found.cuda:
        print("There is no GPU here: a tiny shape shows that the script works, and figures of a GPU are owed.")
    print(f"{'case':<52} {'tokens/s':>9} {'of ceiling':>10} {'peak GB':>8} {'seconds':>8}")
    rows: list[dict[str, Any]] = []
    out = Path(os.environ.get("OUT") or os.environ.get("OPSTUNE_HOME") or ".opstune") / "gpu.json"
    broken = 0
    for case in cases(found):
        if time.perf_counter() - started > (minutes - 1) * 60:
            print(f"{case.name:<52} left out: the time is up")
            continue
        began = time.perf_counter()
        try:
            seen = measure(case)
        except torch.OutOfMemoryError:
            print(f"{case.name:<52} does not fit into this GPU's memory")
            continue
        except Exception as error:  # a lent GPU's minutes are for the other cases
            print(f"{case.name:<52} failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            broken = 1
            continue
        row = entry(case, seen, peak, time.perf_counter() - began, f"{source}, {platform.machine()}")
        rows.append(row)
        write_text(out, json.dumps(rows, indent=1))
        print(f"{case.name:<52} {row['value']:>9,.0f} {row['ratio']:>10.1%} {row['peak_gb']:>8} {row['seconds']:>8}")
        for text in seen.turned_off:
            print(f"  off: {text}")
        if case.shape is QWEN2_7B and case.method == "qlora" and seen.peak > SMALL_CARD:
            print(f"  a 7B QLoRA took {row['peak_gb']} GB, and must fit into {SMALL_CARD / 1e9:.0f}")
            broken = 1
    print(f"written to {out}")
    return broken


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(float(arguments[arguments.index("--minutes") + 1]) if "--minutes" in arguments else 9.0))
