"""Word 3-grams of many texts as 64-bit numbers: whole blocks of text at once, as arrays of bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

#: Characters a block: its arrays then stay in the processor's cache.
_BLOCK = 1 << 18
_WORD = re.compile(r"\w+")
#: The same event logged at another time is the same event.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?|\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"
)
#: Byte → its lower case where it belongs to a word, else 0. What is not ASCII is cut into words beforehand.
_LETTER = np.array(
    [code if code > 127 else ord(chr(code).lower()) if _WORD.match(chr(code)) else 0 for code in range(256)],
    dtype=np.uint64,
)
_DIGIT = np.array([chr(code).isdecimal() and code < 128 for code in range(256)])
#: Any odd number can be divided by modulo 2**64; this one is 2**64 over the golden ratio.
_BASE = 0x9E3779B97F4A7C15
_SECOND, _THIRD = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)


class Shingles(NamedTuple):
    """Text n has ``values[starts[n]:starts[n + 1]]``: at least one, in order, repeats included."""

    values: Numbers
    starts: Positions

    def sets(self) -> Iterator[frozenset[int]]:
        """Each text's shingles as a set."""
        for start, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield frozenset(self.values[start:end].tolist())


def blocks(texts: Sequence[str]) -> Iterator[tuple[int, Shingles]]:
    """The shingles of all texts, some hundred texts at a time, each block with the position of its first text."""
    start = size = 0
    for position, text in enumerate(texts):
        size += len(text)
        if size >= _BLOCK or position == len(texts) - 1:
            yield start, shingles(texts[start : position + 1])
            start, size = position + 1, 0


def shingles(texts: Sequence[str]) -> Shingles:
    """Every three words in a row, in lower case, times of day left out; a shorter text is one shingle.

    Equal shingles have equal numbers; of five million different ones, two share a number with a
    probability of 1e-6.
    """
    letters, ends = _letters(texts)
    words, first = _words(letters, ends)
    counts = np.diff(first)
    starts = np.append(0, np.cumsum(np.maximum(counts - 2, 1)))
    at = np.arange(starts[-1]) + np.repeat(first[:-1] - starts[:-1], np.diff(starts))
    padded = np.append(words, np.zeros(3, np.uint64))
    parts = [padded[at + place] for place in range(3)]
    for place, part in enumerate(parts):
        part[starts[:-1][counts <= place]] = 0
    return Shingles(_mixed(parts[0] + parts[1] * _SECOND + parts[2] * _THIRD), starts)


def _letters(texts: Sequence[str]) -> tuple[Numbers, Positions]:
    """All texts in a row, each ended by a 0, as lower-case letters with 0 between words; and where each ends."""
    joined = "\0".join(texts)
    if joined.count("\0") >= len(texts):
        texts = [text.replace("\0", "\n") for text in texts]
        joined = "\0".join(texts)
    if not joined.isascii():
        texts = [text if text.isascii() else " ".join(_WORD.findall(_TIME.sub("", text).lower())) for text in texts]
        joined = "\0".join(texts)
    raw = np.frombuffer(joined.encode() + b"\0", np.uint8)
    ends = np.flatnonzero(raw == 0)
    if timed := np.unique(np.searchsorted(ends, _clocks(raw))).tolist():
        texts = list(texts)
        for position in timed:
            texts[position] = _TIME.sub("", texts[position])
        raw = np.frombuffer("\0".join(texts).encode() + b"\0", np.uint8)
        ends = np.flatnonzero(raw == 0)
    return _LETTER[raw], ends


def _clocks(raw: npt.NDArray[np.uint8]) -> Positions:
    """Where a colon stands between two digits and two digits, as it does in every time of day."""
    colons = np.flatnonzero(raw == ord(":"))
    colons = colons[(colons > 1) & (colons < len(raw) - 2)]
    for distance in (-1, 1, -2, 2):
        colons = colons[_DIGIT[raw[colons + distance]]]
    return colons


def _words(letters: Numbers, ends: Positions) -> tuple[Numbers, Positions]:
    """The number of each word, and the first word of each text (and of the one after the last).

    A word is a polynomial of its letters. The sums up to every letter give each as a difference, which is
    then divided by the power at which the word begins.
    """
    inside = letters != 0
    edges = np.flatnonzero(np.diff(inside, prepend=False))
    begin, end = edges[::2], edges[1::2]
    powers, inverses = _powers(1 << (len(letters) - 1).bit_length())
    sums = np.append(np.uint64(0), np.cumsum(letters * powers[: len(letters)]))
    words = _mixed((sums[end] - sums[begin]) * inverses[begin])
    return words, np.append(0, np.searchsorted(begin, ends))


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Numbers, Numbers]:
    """The powers of the base from 0 on, and their inverses, modulo 2**64."""
    both = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        both.append(np.multiply.accumulate(factors))
    return both[0], both[1]


def _mixed(numbers: Numbers) -> Numbers:
    """Every bit of a number depends on every bit (the finaliser of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
