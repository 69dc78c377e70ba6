"""Packed examples are trained as if each stood alone: the same loss, the same gradients, the same steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from child_place import Told, facts, make_spec, weights
from transformers import AutoConfig, AutoModelForCausalLM

from opstune.train import machine, sft
from opstune.train.backends import trl
from opstune.train.batches import collate, pack
from opstune.train.examples import IGNORED, Tokens
from opstune.train.profiles import Profile
from opstune.train.sft import AnswerTrainer

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "phi", "gpt2")
ROWS = [
    {"input_ids": list(range(2, 2 + size)), "labels": [IGNORED] * 3 + list(range(5, 2 + size))} for size in (9, 5, 17)
]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(architecture: str, attention: str, **changes: Any) -> Any:
    sizes = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48}
    if architecture == "gpt2":
        sizes = {"n_head": 4, "n_layer": 2, "n_embd": 32}
    elif architecture != "phi":
        sizes |= {"num_key_value_heads": 2, "head_dim": 8}
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=64, max_position_embeddings=64, initializer_range=0.3, bos_token_id=0,
        eos_token_id=1, pad_token_id=0, **sizes, **changes,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def loss_and_gradients(model: Any, parts: list[dict[str, torch.Tensor]]) -> tuple[float, dict[str, torch.Tensor]]:
    """The summed loss of the answers over the parts, and what it asks of every weight."""
    model.zero_grad()
    total = torch.zeros(())
    for part in parts:
        labels = part.pop("labels")
        logits = model(**part, use_cache=False).logits[:, :-1].flatten(0, 1)
        total = total + torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    total.backward()
    return total.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", ["apart", "sdpa", "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_examples_are_kept_apart(architecture: str, attention: str) -> None:
    model = tiny(architecture, attention)
    alone, wanted = loss_and_gradients(model, [collate([row], 0) for row in ROWS])
    packed, found = loss_and_gradients(model, [pack(ROWS)])
    assert packed == pytest.approx(alone, rel=1e-5)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4, msg=name)
    mixed, _ = loss_and_gradients(model, [{**pack(ROWS), "position_ids": torch.arange(31)[None]}])
    assert mixed != pytest.approx(alone, rel=1e-3)  # without positions of their own they see each other


@pytest.mark.parametrize("window", [8, 32])
def test_a_base_that_looks_back_a_limited_way_does_so_in_each_example(window: int) -> None:
    alone, wanted = loss_and_gradients(
        tiny("mistral", "sdpa", sliding_window=window), [collate([row], 0) for row in ROWS]
    )
    packed, found = loss_and_gradients(tiny("mistral", "apart", sliding_window=window), [pack(ROWS)])
    assert packed == pytest.approx(alone, rel=1e-5)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("attention", ["auto", "sdpa", "eager"])
def test_a_packed_training_makes_the_same_steps(
    attention: str, tmp_path: Path, base: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "POOL", sft.PACKED_POOL)
    asked = {"attention": attention, "max_steps": 6, "batch_size": 2, "accumulation": 3}
    padded = make_spec(tmp_path / "padded", base, profile, **asked)
    packed = make_spec(tmp_path / "packed", base, profile, packing=True, **asked)
    for spec in (padded, packed):
        trl.run(spec, Told())
    assert facts(padded)["tokens"] == facts(packed)["tokens"]
    for one, other in zip(facts(padded)["curve"], facts(packed)["curve"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    one, other = weights(padded), weights(packed)
    furthest = max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)
    assert furthest < 1e-3


def trainer(tmp_path: Path, base: Path, profile: Profile, **changes: Any) -> AnswerTrainer:
    from opstune.train import model

    spec = make_spec(tmp_path, base, profile, **changes)
    means = machine.means(spec)
    adapted, tokenizer = model.load(spec, means)
    rows = [Tokens(list(range(3, 3 + size)), 3) for size in (40, 30, 20, 35)]
    return AnswerTrainer(adapted, tokenizer, rows, spec, means)


def test_logits_made_in_pieces_give_the_same_loss_and_gradients(
    tmp_path: Path, base: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for at_once in (1024, 50):
        monkeypatch.setattr(sft, "LOGITS_AT_ONCE", at_once)
        learner = trainer(tmp_path / str(at_once), base, profile)
        [share] = learner.get_train_dataloader()
        assert sum(int((part["labels"] != IGNORED).sum()) for part in share["parts"]) == 113
        loss = learner.compute_loss(learner.model, share["parts"][0])
        loss.backward()
        found.append((loss.item(), [p.grad for p in learner.model.parameters() if p.requires_grad]))
    (whole, wanted), (pieces, got) = found
    assert pieces == pytest.approx(whole, rel=1e-6)
    for one, other in zip(wanted, got, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


GPU = machine.Machine(cuda=True, capability=(9, 0), bf16=True, flash_attn=True, triton=True)
CPU = machine.Machine(cuda=False, capability=(0, 0), bf16=False, flash_attn=False, triton=False)
SHORT = [Tokens(list(range(size)), 3) for size in (40, 50, 60, 70, 80, 90)]


@pytest.mark.parametrize(
    ("found", "packing", "batch", "fits", "expected"),
    [
        (GPU, True, 4, 1.0, 300),  # the four longest, not four of 400 tokens
        (GPU, True, 2, 0.5, 150),
        (GPU, True, 1, 0.25, None),  # one example at once
        (GPU, False, 4, 1.0, 360),  # padded to the longest
        (GPU, False, 2, 0.5, 180),
        (CPU, True, 2, 0.5, 150),
        (CPU, False, 4, 1.0, None),  # so many examples at once, whatever their length
        (CPU, False, 2, 0.5, None),
    ],
)
def test_half_the_batch_is_half_of_what_was_in_memory(
    found: machine.Machine, packing: bool, batch: int, fits: float, expected: int | None,
    tmp_path: Path, base: Path, profile: Profile,
) -> None:  # fmt: skip
    changes = {"batch_size": batch, "accumulation": 4 // batch, "fits": fits, "packing": packing}
    spec = make_spec(tmp_path / "work", base, profile, **changes)
    assert sft._at_once(spec, machine.means(spec, found), SHORT) == expected
