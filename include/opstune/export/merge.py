"""The model that is converted: an adapter merged into its base, or whole weights as they are.

An adapter that learnt on the base in 4 bits may be merged into the values that it saw, or into the original 16-bit
weights. Which answers better is measured, not assumed: on this very adapter, by the loss over validation examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from opstune.engines.weights import is_adapter, load, load_tokenizer
from opstune.examples import Example
from opstune.export.facts import Choice
from opstune.skills import get
from opstune.skills.base import messages, target

#: Above this many bytes of weights the merge works in 16 bits, to halve its memory.
_LARGE = 4 * 1024**3


def merge(base: Path, trained: Path, out: Path, nf4: bool) -> Path:
    """The folder of the whole model: ``out``, in fp32 (fp16 for large models), or ``trained`` where it is whole.

    Args:
        nf4: merge into the values that the base has in 4 bits.
    """
    if not is_adapter(trained):
        return trained
    load(base, trained, _dtype(base), nf4=nf4).save_pretrained(out)
    load_tokenizer(trained).save_pretrained(out)
    return out


def merge_better(base: Path, trained: Path, out: Path, examples: Sequence[Example]) -> Choice:
    """Merge an adapter that learnt in 4 bits both ways, and leave the one with the lower loss in ``out``.

    Where both are equal it is the dequantised base, which the adapter saw and evaluation measured.

    Raises:
        ValueError: no example fits into the model.
    """
    tokenizer = load_tokenizer(trained)
    tokenizer.save_pretrained(out)
    losses: list[float] = []
    for nf4 in (True, False):
        network = load(base, trained, _dtype(base), nf4=nf4)
        losses.append(answer_loss(network, tokenizer, examples))
        if losses.index(min(losses)) == len(losses) - 1:
            network.save_pretrained(out)
        del network  # two of them may not fit into memory
    return Choice(dequantised=losses[0], original=losses[1], examples=len(examples))


@torch.inference_mode()
def answer_loss(network: Any, tokenizer: Any, examples: Sequence[Example]) -> float:
    """Mean negative log-likelihood of the expected answers with their end; nats a token."""
    network.eval()
    total, count = 0.0, 0
    for example in examples:
        ids, answer = tokens(tokenizer, example)
        if len(ids) > network.config.max_position_embeddings:
            continue
        row = torch.tensor([ids])
        logits = network(input_ids=row).logits[0, answer - 1 : -1].float()
        total += float(torch.nn.functional.cross_entropy(logits, row[0, answer:], reduction="sum"))
        count += len(ids) - answer
    if not count:
        raise ValueError(f"none of {len(examples)} validation examples fits into the model")
    return total / count


def tokens(tokenizer: Any, example: Example) -> tuple[list[int], int]:
    """The ids of an answered chat up to the end of the answer, and where the answer begins."""
    asked = messages(get(example.skill), example.context)
    texts = (
        tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True),
        tokenizer.apply_chat_template(
            [*asked, {"role": "assistant", "content": target(example.answer)}], tokenize=False
        ),
    )
    prompt, whole = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    end = tokenizer.eos_token_id
    if end not in whole[len(prompt) :]:
        return [*whole, end], len(prompt)
    return whole[: whole.index(end, len(prompt)) + 1], len(prompt)


def _dtype(base: Path) -> torch.dtype:
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return torch.float32 if size < _LARGE else torch.float16
