"""Training on a real GPU. Without one every test here is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from opstune.bench import gpu, shapes
from opstune.bench.gpu import Case
from opstune.bench.shapes import QWEN2_7B, TINY
from opstune.train import machine
from opstune.train.batches import collate, pack


@pytest.fixture(autouse=True)
def a_gpu() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here: run this on a machine with one, or python -m opstune.bench.gpu there")
    yield
    torch.cuda.empty_cache()


def test_a_7b_qlora_fits_into_24_gb() -> None:
    assert gpu.measure(Case(QWEN2_7B, "qlora", 8, packing=False)).peak <= gpu.SMALL_CARD


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_tiny_shapes_train_padded_and_packed(method: str) -> None:
    packed = "flash" if machine.look().flash_attn else "flex"
    for case in (
        Case(TINY, method, 4, False, max_length=256),
        Case(TINY, method, 4, True, packed, max_length=256),
        Case(TINY, method, 4, True, "sdpa", max_length=256),
    ):
        assert gpu.measure(case).tokens_per_second > 0


@pytest.mark.parametrize("attention", ["sdpa", "flex", "flash"])
def test_packed_examples_are_kept_apart(attention: str) -> None:
    if attention == "flash" and not machine.look().flash_attn:
        pytest.skip("flash-attn is not installed here")
    device, name = torch.device("cuda"), machine.KERNELS[attention]
    model = shapes.model(TINY, device, torch.bfloat16, name, four_bits=False).train()
    for parameter in model.parameters():  # else all logits are alike, and so is every loss
        parameter.data.mul_(10)
    rows = [{"input_ids": row.ids, "labels": row.labels} for row in shapes.examples(8, TINY.vocabulary, 512)]
    packed = summed(model, pack(rows))
    assert packed == pytest.approx(sum(summed(model, collate([row], 0)) for row in rows), rel=0.01)


def summed(model: Any, part: dict[str, torch.Tensor]) -> float:
    """The answers' summed loss of a part."""
    on_gpu = {name: tensor.cuda() for name, tensor in part.items()}
    labels = on_gpu.pop("labels")
    logits = model(**on_gpu, use_cache=False).logits[:, :-1].float().flatten(0, 1)
    return float(torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum"))
