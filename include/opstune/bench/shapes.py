"""Models of a real shape with random weights, made on the device, and examples of on-call lengths for them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from opstune.engines.weights import nf4_config
from opstune.train.examples import Tokens

#: Lengths are log-normal about this many tokens, as an alert with its labels and telemetry has under a large
#: model's tokenizer; a quarter of them is answer.
_MEDIAN, _SPREAD, _ANSWER = 350, 0.6, 0.25


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, under transformers' name of its architecture."""

    name: str
    architecture: str
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int


LLAMA_8B = Shape("llama-8b", "llama", 4096, 14336, 32, 32, 8, 128256)
QWEN2_7B = Shape("qwen2-7b", "qwen2", 3584, 18944, 28, 28, 4, 152064)
TINY = Shape("tiny", "llama", 64, 128, 2, 4, 2, 512)


def model(shape: Shape, device: torch.device, dtype: torch.dtype, attention: str | None, four_bits: bool) -> Any:
    """The shape with random weights in ``dtype``, its matrices in NF4 where asked, as transformers loads them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape.architecture, vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        intermediate_size=shape.feed_forward, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
        max_position_embeddings=8192, tie_word_embeddings=False, pad_token_id=0,
    )  # fmt: skip
    with device:
        made = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    if four_bits:
        _quantise(made, device, dtype)
    return made


def _quantise(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Every matrix but the head into NF4, one after another, so that the whole never stands twice."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    kind = {"compress_statistics": True, "quant_type": "nf4"}
    for name, old in list(model.named_modules()):
        if type(old) is not torch.nn.Linear or name == "lm_head":
            continue
        parent, _, leaf = name.rpartition(".")
        with torch.device("meta"):
            new = Linear4bit(old.in_features, old.out_features, old.bias is not None, dtype, **kind)
        new.weight = Params4bit(old.weight.data, requires_grad=False, **kind).to(device)
        new.bias = old.bias
        setattr(model.get_submodule(parent), leaf, new)
    model.is_loaded_in_4bit = True
    model.config.quantization_config = nf4_config(dtype)


def matrix_parameters(shape: Shape) -> int:
    """Weights that every token is multiplied with: the layers', without embeddings and head."""
    head = shape.hidden // shape.heads
    attention = shape.hidden * head * (2 * shape.heads + 2 * shape.key_heads)
    return shape.layers * (attention + 3 * shape.hidden * shape.feed_forward)


def parameters(shape: Shape) -> int:
    """All weights but the norms': what a model's name counts."""
    return matrix_parameters(shape) + 2 * shape.hidden * shape.vocabulary


def tokenizer() -> Any:
    """The least that a trainer asks of a tokenizer: a token that pads and one that ends."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<end>")


def examples(count: int, vocabulary: int, max_length: int, seed: int = 7) -> list[Tokens]:
    """Random tokens in examples of on-call lengths; shorter ones by as much where ``max_length`` is small."""
    random = Random(seed)
    scale = min(1.0, max_length / 2048)
    made = []
    for _ in range(count):
        drawn = round(random.lognormvariate(0, _SPREAD) * _MEDIAN * scale)
        length = min(max(drawn, 8), max_length)
        ids = [random.randrange(2, vocabulary) for _ in range(length)]
        made.append(Tokens(ids, round(length * (1 - _ANSWER))))
    return made
