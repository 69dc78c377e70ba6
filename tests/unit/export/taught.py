"""A model small enough to be taught three answers in two seconds, with a tokenizer trained as tiny-ops's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.skills.base import SYSTEM

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TAUGHT = {
    "pod checkout-1 restarts": '{"function":"restart_pod","pod":"checkout-1"}',
    "disk of db-2 is full": '{"function":"clean_disk","host":"db-2"}',
    "nothing to see": '{"function":"none"}',
}


@dataclass(frozen=True)
class Taught:
    """A base folder and the sealed adapter that was trained on it."""

    base: Path
    adapter: Ref


def chat(user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def make_tokenizer() -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=381, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([*TAUGHT, *TAUGHT.values(), SYSTEM] * 10, trainer)
    bpe.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        model_max_length=512,
    )


def teach(folder: Path) -> Taught:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    base = folder / "base"
    model = Qwen2ForCausalLM(config)
    # The base knows the words, in another order; what is right comes with the adapter alone.
    _fit(model, tokenizer, dict(zip(TAUGHT, reversed(TAUGHT.values()), strict=True)), steps=60, rate=3e-3)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    _fit(tuned, tokenizer, TAUGHT, steps=60, rate=5e-3)
    adapter = folder / "adapter"
    tuned.save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    training = {"base_sha256": artifacts.model_sha256(base), "method": "lora"}
    (adapter / "training.json").write_text(json.dumps(training))
    artifacts.seal(adapter, "adapter", {}, {"inputs": {}, "asked": "made in a test"})
    return Taught(base, artifacts.open_ref(adapter))


def _fit(model: Any, tokenizer: Any, answers: dict[str, str], steps: int, rate: float) -> None:
    import torch

    prompts = [
        tokenizer.apply_chat_template(chat(user), add_generation_prompt=True, return_dict=False) for user in answers
    ]
    targets = [tokenizer(answer + "<|im_end|>")["input_ids"] for answer in answers.values()]
    longest = max(len(prompt + target) for prompt, target in zip(prompts, targets, strict=True))
    ids = torch.full((len(answers), longest), tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        end = len(prompt) + len(target)
        ids[row, :end] = torch.tensor(prompt + target)
        labels[row, len(prompt) : end] = torch.tensor(target)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=rate)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.02, f"the model was not taught: loss {loss.item():.3f}"
