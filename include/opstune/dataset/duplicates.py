"""Exact and near duplicates over what the model would see: the user message and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from opstune import skills
from opstune.dataset import minhash, shingles
from opstune.examples import Example
from opstune.skills.base import target


@dataclass
class Duplicates:
    """``exact``, ``near``: dropped position → the one kept instead. ``pairs``: all that must stay on one side."""

    exact: dict[int, int] = field(default_factory=dict)
    near: dict[int, int] = field(default_factory=dict)
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def clusters(self) -> dict[int, list[int]]:
        """Kept position → its near duplicates, where there are some."""
        found: dict[int, list[int]] = {}
        for dropped, kept in sorted(self.near.items()):
            found.setdefault(kept, []).append(dropped)
        return found


def text_of(example: Example) -> str:
    """What the model would see of an example: the user message and the answer it is taught."""
    return f"{skills.get(example.skill).render(example.context)}\n{target(example.answer)}"


def find(texts: Sequence[str], threshold: float, seed: int, linked: float | None = None) -> Duplicates:
    """Duplicates among texts, which stand in order of precedence: of two alike, the first is kept.

    Near: exact Jaccard similarity of the sets of word 3-grams, times of day left out, is ``threshold``
    or more. A text is dropped when it is near one that is kept, so a chain of small changes does not
    swallow texts that differ; ``pairs`` holds every verified pair all the same, and those of at least
    ``linked`` similarity, which are both kept.
    """
    found = Duplicates()
    first: dict[str, int] = {}
    for position, text in enumerate(texts):
        kept = first.setdefault(text, position)
        if kept != position:
            found.exact[position] = kept
            found.pairs.append((kept, position))
    distinct = sorted(first.values())
    neighbours: dict[int, list[int]] = {}
    lowest = threshold if linked is None else min(linked, threshold)
    for left, right, similarity in _alike([texts[position] for position in distinct], lowest, seed):
        earlier, later = distinct[left], distinct[right]
        found.pairs.append((earlier, later))
        if similarity >= threshold:
            neighbours.setdefault(later, []).append(earlier)
    for later in sorted(neighbours):
        kept_ones = [earlier for earlier in sorted(neighbours[later]) if earlier not in found.near]
        if kept_ones:
            found.near[later] = kept_ones[0]
    return found


def near_pairs(texts: Sequence[str], threshold: float, seed: int) -> list[tuple[int, int]]:
    """Pairs of positions, smaller first, whose shingle sets have a Jaccard similarity of ``threshold`` or more."""
    return [(left, right) for left, right, _ in _alike(texts, threshold, seed)]


def _alike(texts: Sequence[str], threshold: float, seed: int) -> Iterator[tuple[int, int, float]]:
    if len(texts) < 2:
        return
    pairs = minhash.candidates(texts, threshold, seed)
    compared = np.unique(pairs).tolist()
    blocks = shingles.blocks([texts[position] for position in compared])
    sets = dict(zip(compared, (found for _, block in blocks for found in block.sets()), strict=True))
    for left, right in pairs.tolist():
        if (similarity := jaccard(sets[left], sets[right])) >= threshold:
            yield left, right, similarity


def jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    """Shared of all, 0 to 1."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)
