"""MinHash: which of many texts are worth comparing, from a short sketch of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from opstune.dataset.shingles import Numbers, Positions, blocks

#: Share of pairs at the threshold that banding must bring up as candidates.
RECALL = 0.998
#: Hashes a text, at most. One standard error of the estimate is sqrt(s(1-s)/512): 0.02 at s = 0.7.
_HASHES = 512
#: In a fuller bucket not all are compared with all, or 10,000 repeats of one alert would be 50 million pairs.
_BUCKET = 100
#: There each is compared with so many of the first, which are those that stay, and with so many that follow it.
_LINKS = 4
#: Bands whose candidates are put together before they are estimated: fewer estimates, more memory.
_TOGETHER = 16
_CHUNK = 1 << 20

Sketches = npt.NDArray[np.uint16]


class Banding(NamedTuple):
    """``bands`` of ``rows`` hashes each; texts that agree on all rows of a band are candidates."""

    bands: int
    rows: int


def banding(threshold: float) -> Banding:
    """The most rows a band with which a pair at the threshold is a candidate with probability ``RECALL``.

    With b bands of r rows a pair of similarity s is one with probability 1 - (1 - s^r)^b (Leskovec, Rajaraman,
    Ullman: Mining of Massive Datasets, 3.4.2). More rows bring up fewer pairs that are not alike: of those at
    0.4, which texts of one template reach, 128 bands of 4 rows bring up 96 % and 85 bands of 6 rows 30 %.
    """
    for rows in range(16, 1, -1):
        if 1 - (1 - threshold**rows) ** (_HASHES // rows) >= RECALL:
            return Banding(_HASHES // rows, rows)
    return Banding(_HASHES, 1)


def candidates(texts: Sequence[str], threshold: float, seed: int) -> npt.NDArray[np.int64]:
    """Pairs of positions, (n, 2), smaller first, sorted, whose estimated similarity is near the threshold or above."""
    shape = banding(threshold)
    sketches = _sketches(texts, shape.bands * shape.rows, seed)
    likely = []
    for start in range(0, len(sketches), _TOGETHER * shape.rows):
        bands = range(start, min(start + _TOGETHER * shape.rows, len(sketches)), shape.rows)
        pairs = np.unique(np.concatenate([_in_one_bucket(sketches[band : band + shape.rows]) for band in bands]))
        likely += [_likely(pairs[at : at + _CHUNK], sketches, threshold) for at in range(0, len(pairs), _CHUNK)]
    every = np.unique(np.concatenate([np.empty(0, np.int64), *likely]))
    return np.stack((every >> 32, every & 0xFFFFFFFF), axis=1)


def _sketches(texts: Sequence[str], hashes: int, seed: int) -> Sketches:
    """(hashes, texts): the smallest value of each hash over a text's shingles.

    Kept are the lower 16 bits of 32, in which different minima agree once in 65,536 times (Li and König:
    b-bit minwise hashing). An odd factor and a summand permute the 32-bit numbers.
    """
    random = np.random.default_rng(seed)
    factors = random.integers(1 << 32, size=hashes, dtype=np.uint32) | np.uint32(1)
    summands = random.integers(1 << 32, size=hashes, dtype=np.uint32)
    sketches = np.empty((hashes, len(texts)), np.uint16)
    for position, (values, starts) in blocks(texts):
        upper = (values >> np.uint64(32)).astype(np.uint32)
        hashed = np.empty_like(upper)
        for number, (factor, summand) in enumerate(zip(factors, summands, strict=True)):
            np.multiply(upper, factor, out=hashed)
            np.add(hashed, summand, out=hashed)
            least = np.minimum.reduceat(hashed, starts[:-1])
            sketches[number, position : position + len(least)] = least
    return sketches


def _in_one_bucket(rows: Sketches) -> npt.NDArray[np.int64]:
    """The pairs that agree on all rows, each as ``smaller << 32 | larger``."""
    key: Numbers = np.zeros(rows.shape[1], np.uint64)
    for row in rows:
        key = (key ^ row) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    key = key[order]
    sizes = np.diff(np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1], [True]))))
    members = order[np.repeat(sizes > 1, sizes)]
    left, right = _within(sizes[sizes > 1])
    return members[left] << 32 | members[right]


def _within(sizes: Positions) -> tuple[Positions, Positions]:
    """All pairs of members of one bucket, the buckets standing in a row with these sizes; some of a full one's."""
    size = np.repeat(sizes, sizes)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    member = np.arange(len(size))
    full = size > _BUCKET
    following = first + size - 1 - member
    reach = np.where(full, np.minimum(following, _LINKS), following)
    left = np.repeat(member, reach)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(reach) - reach, reach)
    later = member[full & (member - first > _LINKS)]
    firsts = [first[later] + place for place in range(_LINKS)]
    return np.concatenate([left, *firsts]), np.concatenate([right, *[later] * _LINKS])


def _likely(pairs: npt.NDArray[np.int64], sketches: Sketches, threshold: float) -> npt.NDArray[np.int64]:
    """The pairs whose estimated similarity is within four standard errors of the threshold, or above it.

    A quarter of the hashes tells most of those apart that are not.
    """
    for part in (sketches[: len(sketches) // 4], sketches):
        left, right = pairs >> 32, pairs & 0xFFFFFFFF
        alike = np.zeros(len(pairs), np.int32)
        for row in part:
            alike += row[left] == row[right]
        floor = threshold - 4 * np.sqrt(threshold * (1 - threshold) / len(part))
        pairs = pairs[alike >= floor * len(part)]
    return pairs
