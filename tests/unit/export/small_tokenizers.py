"""Tokenizers of each kind that a base has, trained on a few sentences: 400 entries instead of 32,000 and more.

What makes a kind is as published: the split, the control tokens and their flags, and what begins a text.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opstune.train.profiles import template_file

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")
#: Qwen2's own template sets a system message where none is, and writes ChatML.
QWEN2_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}" + template_file("chatml").read_text()
)


@dataclass(frozen=True)
class Kind:
    """``split`` none is SentencePiece; ``swallows`` are control tokens that take the white space after them."""

    control: tuple[str, ...]
    end: str
    begin: str | None = None
    split: str | None = None
    template: str | None = None
    legacy: bool = False
    swallows: bool = False


KINDS = {
    "qwen2": Kind(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", split=QWEN2_SPLIT, template=QWEN2_TEMPLATE
    ),
    "llama3": Kind(
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        begin="<|begin_of_text|>",
        split=LLAMA3_SPLIT,
        template=template_file("llama3").read_text(),
    ),
    "gpt2": Kind(("<|endoftext|>",), "<|endoftext|>", begin="<|endoftext|>", split="ByteLevel"),
    "mistral": Kind(("[INST]", "[/INST]"), "</s>", begin="<s>", template=template_file("mistral").read_text()),
    "yi": Kind(("<|im_start|>", "<|im_end|>"), "<|im_end|>", begin="<s>", legacy=True),
    "phi3": Kind(
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
        begin="<s>",
        template=template_file("phi3").read_text(),
        swallows=True,
    ),
}


def make_tokenizer(kind: str, sentences: Sequence[str]) -> Any:
    """A tokenizer of this kind; without a chat template where the published one has none that we use."""
    asked = KINDS[kind]
    tokenizer = _byte_level(asked, sentences) if asked.split else _sentencepiece(asked, sentences)
    tokenizer.chat_template = asked.template
    tokenizer.eos_token = asked.end
    return tokenizer


def _byte_level(kind: Kind, sentences: Sequence[str]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    if kind.split == "ByteLevel":
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(str(kind.split)), behavior="isolated")
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    if kind.split == QWEN2_SPLIT:
        bpe.normalizer = normalizers.NFC()
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400 - len(kind.control),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sentences, trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in kind.control])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=kind.begin, eos_token=kind.end, pad_token=kind.control[0]
    )


def _sentencepiece(kind: Kind, sentences: Sequence[str]) -> Any:
    import sentencepiece
    from transformers import AutoTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for sentence in sentences for line in sentence.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        control_symbols=list(() if kind.swallows else kind.control),
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    settings = {
        "tokenizer_class": "LlamaTokenizer", "bos_token": kind.begin, "eos_token": "</s>", "unk_token": "<unk>",
        "add_bos_token": True, "legacy": kind.legacy,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.model").write_bytes(model.getvalue())
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.init_kwargs["legacy"] = kind.legacy  # as published; saving forgets it
    if kind.swallows:  # Phi-3's stand behind Llama's vocabulary
        from tokenizers import AddedToken

        swallow = [AddedToken(t, special=True, normalized=False, rstrip=True) for t in ("</s>", *kind.control[1:])]
        tokenizer.add_tokens([AddedToken(kind.control[0], special=True, normalized=False), *swallow])
    return tokenizer
