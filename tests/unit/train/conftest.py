"""A base of 40 thousand parameters with a ChatML byte tokenizer, a sealed dataset, and a profile for both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from training_data import TEMPLATE, example, make_dataset

from opstune.artifacts import Ref
from opstune.examples import Example
from opstune.skills import get
from opstune.train.profiles import Profile


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "base"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    bare.add_special_tokens([AddedToken(text, special=True) for text in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.15, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def profile(base: Path) -> Profile:
    return Profile.model_validate(
        {
            "name": "test",
            "base": str(base),
            "method": "lora",
            "lora": {"rank": 4, "alpha": 8},
            "epochs": 2,
            "learning_rate": 0.01,
            "schedule": "linear",
            "warmup": 0.1,
            "batch_size": 4,
            "max_length": 400,
            "optimiser": "adamw",
            "activation_checkpointing": False,
            "precision": "float32",  # else a processor that multiplies bfloat16 rounds more than tests allow for
            "incremental": {"learning_rate_factor": 0.5, "epochs": 1},
            "needs": {"disk_gb": 0.001, "memory_gb": 0.1},
        }
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Ref:
    return make_dataset(tmp_path / "dataset", [example(number) for number in range(18)])


@pytest.fixture
def prompt() -> Callable[[Example], str]:
    return lambda asked: get(asked.skill).render(asked.context)
