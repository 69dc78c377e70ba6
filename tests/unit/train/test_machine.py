"""What a machine makes of a profile's wishes, for machines of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from child_place import make_spec

from opstune.train import machine
from opstune.train.machine import Machine
from opstune.train.profiles import Profile

CPU = Machine(cuda=False, capability=(0, 0), bf16=False, flash_attn=False, triton=False)
FULL = Machine(cuda=True, capability=(9, 0), bf16=True, flash_attn=True, triton=True)
BARE = Machine(cuda=True, capability=(9, 0), bf16=True, flash_attn=False, triton=False)
OLD = Machine(cuda=True, capability=(7, 5), bf16=True, flash_attn=True, triton=True)


@pytest.mark.parametrize(
    ("found", "attention", "packing", "expected", "off"),
    [
        (FULL, "auto", False, (None, False), ""),
        (FULL, "auto", True, ("flash_attention_2", True), ""),
        (FULL, "flash", False, ("flash_attention_2", False), ""),
        (FULL, "flex", True, ("flex_attention", True), ""),
        (FULL, "sdpa", True, ("sdpa", True), ""),
        (FULL, "eager", False, ("eager", False), ""),
        (BARE, "auto", True, ("apart", True), ""),
        (BARE, "flash", False, (None, False), "flash attention (flash-attn is not installed"),
        (BARE, "flex", False, (None, False), "flex attention (it is compiled by Triton, which is not installed"),
        (OLD, "auto", True, ("apart", True), ""),
        (OLD, "flash", True, ("apart", True), "flash attention (this GPU is older than compute capability 8.0"),
        (OLD, "flex", True, ("flex_attention", True), ""),
        (CPU, "auto", False, (None, False), ""),
        (CPU, "auto", True, ("apart", True), ""),
        (CPU, "eager", True, ("eager", True), ""),
        (CPU, "flash", False, (None, False), "flash attention (it needs a GPU"),
        (CPU, "sdpa", True, ("sdpa", True), ""),
        (CPU, "flex", False, (None, False), "flex attention (it needs a GPU"),
    ],
)
def test_attention_and_packing_follow_from_the_machine(
    found: Machine,
    attention: str,
    packing: bool,
    expected: tuple[str | None, bool],
    off: str,
    tmp_path: Path,
    base: Path,
    profile: Profile,
) -> None:
    spec = make_spec(tmp_path / "work", base, profile, precision="auto", attention=attention, packing=packing)
    means = machine.means(spec, found)
    assert (means.attention, means.packing) == expected
    told = [text for text in means.turned_off if "attention" in text or "packing" in text]
    assert len(told) == bool(off)
    assert off in "".join(told)


@pytest.mark.parametrize(
    ("found", "optimiser", "weights", "bf16"),
    [
        (FULL, "paged_adamw_8bit", torch.bfloat16, True),
        (CPU, "adamw_torch_fused", torch.float32, False),
        (Machine(False, (0, 0), True, False, False), "adamw_torch_fused", torch.float32, True),
    ],
    ids=["a GPU", "a processor", "a processor with bfloat16"],
)
def test_precision_and_optimiser_follow_from_the_machine(
    found: Machine, optimiser: str, weights: torch.dtype, bf16: bool, tmp_path: Path, base: Path, profile: Profile
) -> None:
    means = machine.means(make_spec(tmp_path / "work", base, profile, precision="auto", optimiser="adamw_8bit"), found)
    assert (means.optimiser, means.weights, means.bf16) == (optimiser, weights, bf16)
    assert any("8-bit" in text for text in means.turned_off) is not found.cuda
    assert any("bfloat16" in text for text in means.turned_off) is not bf16


@pytest.mark.parametrize(
    "found", [FULL, CPU, Machine(False, (0, 0), True, False, False)], ids=["GPU", "CPU", "bf16 CPU"]
)
def test_a_profile_may_ask_for_the_same_figures_on_every_machine(
    found: Machine, tmp_path: Path, base: Path, profile: Profile
) -> None:
    asked = make_spec(tmp_path / "work", base, profile, precision="float32", attention="flash", packing=True)
    means = machine.means(asked, found)
    assert (means.bf16, means.weights, means.precision) == (False, torch.float32, "float32")
    assert means.attention == "apart" and not any("bfloat16" in text for text in means.turned_off)
    assert any("flash" in text for text in means.turned_off)


def test_this_machine_is_looked_at(tmp_path: Path, base: Path, profile: Profile) -> None:
    means = machine.means(make_spec(tmp_path / "work", base, profile))
    assert means.cuda is torch.cuda.is_available()
    assert means.threads >= 1
