"""Exact and near duplicates over what the model would see: the user message and the answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

from opstune import skills
from opstune.examples import Example
from opstune.skills.base import target

#: Hashes a document. One standard error of the estimate is sqrt(s(1-s)/128): 0.03 at s = 0.85.
PERMUTATIONS = 128
#: Share of pairs at the threshold that banding must bring up as candidates.
RECALL = 0.99
_SHINGLE = 3
_WORD = re.compile(r"\w+")
#: The same event logged at another time is the same event.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?|\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"
)


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


def find(texts: Sequence[str], threshold: float, seed: int) -> Duplicates:
    """Duplicates among texts, which stand in order of precedence: of two alike, the first is kept.

    Near: exact Jaccard similarity of the sets of word 3-grams, times of day left out, is ``threshold``
    or more. A text is dropped when it is near one that is kept, so a chain of small changes does not
    swallow texts that differ; ``pairs`` holds every verified pair all the same.
    """
    found = Duplicates()
    first: dict[bytes, int] = {}
    for position, text in enumerate(texts):
        digest = hashlib.sha256(text.encode()).digest()
        kept = first.setdefault(digest, position)
        if kept != position:
            found.exact[position] = kept
            found.pairs.append((kept, position))
    distinct = sorted(first.values())
    neighbours: dict[int, list[int]] = {}
    for left, right in near_pairs([texts[position] for position in distinct], threshold, seed):
        earlier, later = distinct[left], distinct[right]
        neighbours.setdefault(later, []).append(earlier)
        found.pairs.append((earlier, later))
    for later in sorted(neighbours):
        kept_ones = [earlier for earlier in sorted(neighbours[later]) if earlier not in found.near]
        if kept_ones:
            found.near[later] = kept_ones[0]
    return found


def near_pairs(texts: Sequence[str], threshold: float, seed: int) -> list[tuple[int, int]]:
    """Pairs of positions, smaller first, whose shingle sets have a Jaccard similarity of ``threshold`` or more."""
    if len(texts) < 2:
        return []
    hashes = RMinHash.from_token_sets([shingles(text) for text in texts], PERMUTATIONS, seed)
    digests = np.array([minhash.digest() for minhash in hashes], dtype=np.uint32)
    index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
    index.insert_many(hashes)
    candidates = [
        (left, right)
        for left, others in enumerate(index.query_all(hashes))
        for right in sorted(set(others))
        if right > left
    ]
    likely = _estimated(candidates, digests, threshold)
    sets: dict[int, frozenset[str]] = {}
    for position in {position for pair in likely for position in pair}:
        sets[position] = frozenset(shingles(texts[position]))
    return [pair for pair in likely if jaccard(sets[pair[0]], sets[pair[1]]) >= threshold]


def _estimated(
    candidates: list[tuple[int, int]], digests: npt.NDArray[np.uint32], threshold: float
) -> list[tuple[int, int]]:
    """The candidates whose estimated similarity is within four standard errors of the threshold, or above it."""
    floor = threshold - 4 * float(np.sqrt(threshold * (1 - threshold) / PERMUTATIONS))
    likely: list[tuple[int, int]] = []
    for start in range(0, len(candidates), 65_536):
        block = np.array(candidates[start : start + 65_536])
        alike = (digests[block[:, 0]] == digests[block[:, 1]]).mean(axis=1)
        likely += [(int(left), int(right)) for left, right in block[alike >= floor]]
    return likely


def bands(threshold: float) -> int:
    """The fewest bands that bring up a pair at the threshold with probability ``RECALL``.

    With b bands of r rows a pair of similarity s is a candidate with probability 1 - (1 - s^r)^b
    (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2).
    """
    for rows in (64, 32, 16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return PERMUTATIONS // rows
    return PERMUTATIONS


def shingles(text: str) -> list[str]:
    """The word 3-grams of a text, each once, times of day left out; a shorter text is one shingle."""
    words = _WORD.findall(_TIME.sub("", text).lower())
    grams = dict.fromkeys(" ".join(words[start : start + _SHINGLE]) for start in range(len(words) - _SHINGLE + 1))
    return list(grams) or [" ".join(words)]


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared of all, 0 to 1."""
    return len(left & right) / len(left | right)
