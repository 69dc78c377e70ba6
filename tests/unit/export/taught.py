"""Every architecture that a profile names, small enough to be taught three answers in two seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from small_tokenizers import make_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.examples import Example, example_id
from opstune.skills.base import SYSTEM
from opstune.train.profiles import template_file

TAUGHT = {
    "pod checkout-1 restarts": '{"function":"restart_pod","pod":"checkout-1"}',
    "disk of db-2 is full": '{"function":"clean_disk","host":"db-2"}',
    "nothing to see": '{"function":"none"}',
}
#: Numbers and apostrophes, which the splits of byte-level tokenizers treat differently.
_SENTENCES = [*TAUGHT, *TAUGHT.values(), SYSTEM, "### system ### user ### assistant", "it's 12 123 1234 don't"] * 10
#: Rotary families share these; the widths suit llama.cpp's blocks of 32.
_SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


@dataclass(frozen=True)
class Architecture:
    """A configuration without its vocabulary, its tokenizer's kind, and the template of a profile that names one."""

    config: Callable[..., PretrainedConfig]
    settings: dict[str, Any]
    tokenizer: str
    template: str | None = None


ARCHITECTURES = {
    "llama": Architecture(LlamaConfig, {**_SHAPE, "rope_theta": 5e5, "tie_word_embeddings": False}, "llama3", "llama3"),
    "qwen2": Architecture(Qwen2Config, {**_SHAPE, "tie_word_embeddings": True}, "qwen2"),
    "qwen3": Architecture(Qwen3Config, {**_SHAPE, "head_dim": 64, "tie_word_embeddings": True}, "qwen2"),
    "mistral": Architecture(
        MistralConfig, {**_SHAPE, "sliding_window": 256, "tie_word_embeddings": False}, "mistral", "mistral"
    ),
    "phi": Architecture(
        PhiConfig, {**_SHAPE, "intermediate_size": 512, "num_key_value_heads": 4, "spare": 27}, "gpt2", "plain"
    ),
    "phi3": Architecture(Phi3Config, {**_SHAPE, "partial_rotary_factor": 0.5, "tie_word_embeddings": False}, "phi3"),
    "yi": Architecture(LlamaConfig, {**_SHAPE, "rope_theta": 5e6, "rms_norm_eps": 1e-6, "spare": 12}, "yi", "chatml"),
    "gpt2": Architecture(GPT2Config, {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512}, "gpt2", "plain"),
}


@dataclass(frozen=True)
class Taught:
    """A base folder and the sealed adapter that was trained on it."""

    base: Path
    adapter: Ref


def chat(user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def make_base(folder: Path, name: str, fit: bool = True) -> tuple[Any, Any]:
    """(network, tokenizer) of a base that stands in ``folder``: it knows the answers, in another order, or nothing."""
    import torch

    architecture = ARCHITECTURES[name]
    tokenizer = make_tokenizer(architecture.tokenizer, _SENTENCES)
    if architecture.template:
        tokenizer.chat_template = template_file(architecture.template).read_text()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    settings = dict(architecture.settings)
    # Published bases have more rows than their tokenizer has entries.
    size = len(tokenizer) + settings.pop("spare", 0)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(architecture.config(vocab_size=size, **settings, **ids))
    if fit:
        _fit(model, tokenizer, dict(zip(TAUGHT, reversed(TAUGHT.values()), strict=True)), rate=3e-3, enough=0.005)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def teach(folder: Path, name: str = "qwen2", method: str = "lora") -> Taught:
    """A base, and the adapter that alone knows what is right."""
    from peft import LoraConfig, get_peft_model

    base, adapter = folder / "base", folder / "adapter"
    model, tokenizer = make_base(base, name)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora)
    _fit(tuned, tokenizer, TAUGHT, rate=5e-3, enough=0.01)
    tuned.save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    return Taught(base, seal(adapter, base, method))


def whole(base: Path) -> Taught:
    """A base as if it were what was trained: whole weights, which need no merge."""
    return Taught(base, Ref(kind="model", uri=base.as_uri(), sha256="0"))


def examples(count: int) -> list[Example]:
    """Validation examples of a skill, whose answers follow from their context."""
    return [
        Example.model_validate(
            {
                "id": example_id("test", str(number), "remediation"), "skill": "remediation", "source": "test",
                "source_id": str(number), "group_id": str(number), "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
                "context": {"alert": "PodCrashLooping", "labels": {"pod": f"web-{number}"}},
                "answer": {"function": "restart_pod", "parameters": {"pod": f"web-{number}"}},
            }
        )
        for number in range(count)
    ]  # fmt: skip


def load_base(base: Path, nf4: bool) -> Any:
    """The base in fp32, its matrices rounded as 4 bits do where that is asked for."""
    import torch

    from opstune.engines.weights import _round_as_nf4

    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if nf4:
        _round_as_nf4(network, base)
    return network.eval()


def knowing(base: Path, shown: Sequence[Example], folder: Path) -> Path:
    """The base when it knows these examples by heart, and has outliers, as large bases do: 4 bits harm it.

    A channel's way in is divided and its way out multiplied, so it says the same. But in 4 bits the largest of
    64 weights decides how coarse the others become.
    """
    from opstune.skills import get
    from opstune.skills.base import target

    network, tokenizer = load_base(base, nf4=False), AutoTokenizer.from_pretrained(base)
    answers = {get(example.skill).render(example.context): target(example.answer) for example in shown}
    _fit(network, tokenizer, answers, rate=3e-3, enough=0.005)
    for layer in network.model.layers:
        layer.mlp.up_proj.weight.data[::64] /= 300
        layer.mlp.down_proj.weight.data[:, ::64] *= 300
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learn(network: Any, tokenizer: Any, shown: Sequence[Example], adapter: Path) -> Path:
    """An adapter that learnt these examples on this network, whatever its weights were rounded to."""
    import torch
    from peft import LoraConfig, get_peft_model

    from opstune.export.merge import tokens

    tuned = get_peft_model(network.eval(), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    optimizer = torch.optim.AdamW((p for p in tuned.parameters() if p.requires_grad), lr=5e-3)
    rows = [tokens(tokenizer, example) for example in shown]
    for _ in range(25):
        for ids, answer in rows:
            row = torch.tensor([ids])
            logits = tuned(input_ids=row).logits[0, answer - 1 : -1]
            torch.nn.functional.cross_entropy(logits, row[0, answer:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    return adapter


def seal(adapter: Path, base: Path, method: str) -> Ref:
    """Make a folder the result of a training on this base."""
    training = {"base_sha256": artifacts.model_sha256(base), "method": method, "holds": "adapter"}
    (adapter / "training.json").write_text(json.dumps(training))
    artifacts.seal(adapter, "adapter", {}, {"inputs": {}, "asked": "made in a test"})
    return artifacts.open_ref(adapter)


def _fit(model: Any, tokenizer: Any, answers: dict[str, str], rate: float, enough: float) -> None:
    import torch

    pairs = [_tokens(tokenizer, user, answer) for user, answer in answers.items()]
    ids = torch.full((len(pairs), max(len(whole) for whole, _ in pairs)), tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for row, (whole, start) in enumerate(pairs):
        ids[row, : len(whole)] = torch.tensor(whole)
        labels[row, start : len(whole)] = torch.tensor(whole[start:])
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=rate)
    model.eval()  # GPT-2 and Phi would drop what they learn
    for _ in range(200):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < enough:
            return
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError(f"the model was not taught: loss {loss.item():.3f}")


def _tokens(tokenizer: Any, user: str, answer: str) -> tuple[list[int], int]:
    prompt = tokenizer.apply_chat_template(chat(user), tokenize=False, add_generation_prompt=True)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    return tokenizer(prompt + answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"], start
