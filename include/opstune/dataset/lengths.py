"""How long examples are: words, and tokens of the model that will be trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opstune.artifacts import sha256_file
from opstune.dataset.duplicates import text_of
from opstune.errors import IntegrityError
from opstune.examples import Example
from opstune.skills.base import SYSTEM

#: Examples of a skill whose tokens are counted: the median of 2,000 is within two percentiles, and 20,000
#: took 1.8 to 4.8 s on 2 cores.
SAMPLE = 2000
#: The longest by characters are always counted, so that the maximum is not a matter of luck.
_LONGEST = 20


@dataclass(frozen=True)
class Tokenizer:
    """A base model's ``tokenizer.json`` and the name of that base."""

    name: str
    file: Path

    def record(self) -> dict[str, str]:
        """Which tokenizer it is, whatever machine it stands on."""
        return {"name": self.name, "sha256": sha256_file(self.file)}


def by_skill(examples: Sequence[Example]) -> dict[str, list[str]]:
    """Skill → the texts of its examples, prompt and answer."""
    texts: dict[str, list[str]] = {}
    for example in examples:
        texts.setdefault(example.skill, []).append(text_of(example))
    return dict(sorted(texts.items()))


def in_words(texts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Skill → words of its texts: quantiles, and a histogram."""
    return {skill: _distribution(sorted(len(text.split()) for text in of)) for skill, of in texts.items()}


def in_tokens(texts: Mapping[str, Sequence[str]], tokenizer: Tokenizer, seed: int) -> dict[str, dict[str, Any]]:
    """Skill → tokens of its texts and the system message; the marks of a chat template come on top.

    Of a skill with more than ``SAMPLE`` examples a seeded sample of that many is counted, and the longest.

    Raises:
        IntegrityError: the file is no tokenizer.
    """
    import tokenizers

    try:
        model = tokenizers.Tokenizer.from_file(str(tokenizer.file))
    except Exception as error:  # tokenizers raises bare Exception
        todo = "Restore the base model's files."
        raise IntegrityError(f"{tokenizer.file} cannot be read as a tokenizer", tokenizer.name, todo) from error
    model.no_truncation()
    model.no_padding()
    before = len(model.encode(SYSTEM, add_special_tokens=False).ids)
    found = {}
    for skill, of in texts.items():
        sample = sorted(of, key=lambda text: hashlib.sha256(f"{seed}:{text}".encode()).digest())[:SAMPLE]
        longest = sorted(set(of), key=lambda text: (-len(text), text))[:_LONGEST]
        encoded = model.encode_batch([*sample, *longest], add_special_tokens=False)
        counts = [before + len(encoding.ids) for encoding in encoded]
        told = _distribution(sorted(counts[: len(sample)]))
        found[skill] = {**told, "max": max(counts), "counted": len(sample)}
    return found


def _distribution(values: Sequence[int], bins: int = 24) -> dict[str, Any]:
    """Of sorted values. ``histogram`` counts from ``start`` on, each step ``step`` wide."""
    start = values[0]
    step = -(-(values[-1] - start + 1) // bins)
    histogram = [0] * (-(-(values[-1] - start + 1) // step))
    for value in values:
        histogram[(value - start) // step] += 1
    quantiles = {name: values[round(q * (len(values) - 1))] for name, q in (("median", 0.5), ("p95", 0.95))}
    return {**quantiles, "max": values[-1], "start": start, "step": step, "histogram": histogram}
