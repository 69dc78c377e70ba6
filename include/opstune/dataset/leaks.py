"""What of one side of the split stands in another: left out when the sides are drawn, looked for again before writing.

Near duplicates are found by how much two texts share of both together. A test question that stands whole
in a longer training example shares little of that, so here it is the share of the held-out question's words
that stand in runs of ``RUN`` or more in one other example. Field names are left out, since all questions of a
skill share them, and so are times of day.

Measured on the generated history (74 days, 717 test questions) and on 2,000, 6,000 and 20,000 made-up episodes
of the 954 real alert rules: between unrelated examples of the former the largest share is 0.60; of the latter
0, 0 and 11 examples would go at 0.7. Of questions planted inside other text with none, one, two or three words
changed, 100, 90, 57 and 36 % are found. Runs of 13 find 100, 65, 31 and 13 %: a question has 15 to 50 words, and
one changed word in its middle breaks every long run. Runs of 5 find 100, 100, 95 and 77 %, but 16, 313 and
2,213 of the alerts would go for nothing but their rule's wording.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from opstune.dataset.choose import Parts
from opstune.dataset.duplicates import text_of
from opstune.dataset.split import Assignments, Split
from opstune.dataset.validate import Drop
from opstune.errors import DataError
from opstune.examples import Example

RUN = 8
LIMIT = 0.7
#: Runs of words in more examples than this are wording: two examples that share no other run are not compared.
WORDING = 50
#: Questions in so many examples and the sides that they are compared with.
_HELD_OUT: tuple[tuple[Split, tuple[Split, ...]], ...] = (("test", ("train", "validation")), ("validation", ("train",)))
_SHOWN = 5
_CHUNK = 100_000
_WORD = re.compile(r"\w+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.,]+\S*|\b\d\d:\d\d:\d\d\S*")

CONTAINS = {"test": "contains a test example", "validation": "contains a validation example"}
CONTAINED = "is contained in an example that was placed before"
REASONS = {*CONTAINS.values(), CONTAINED}

Ints = npt.NDArray[np.int64]


class Cover(NamedTuple):
    """``share`` of the words of ``held`` stand in runs in ``other``; both are positions."""

    held: int
    other: int
    share: float


class Questions:
    """The runs of words in the questions of all examples that may be compared.

    What is wording is counted here, over all of them: a pair that is not compared at first is not compared
    later either, when examples have been left out.
    """

    def __init__(self, examples: Iterable[Example]) -> None:
        vocabulary: dict[str, int] = {}
        self._at: dict[str, int] = {}
        documents: list[Ints] = []
        for example in examples:
            self._at[example.id] = len(documents)
            numbers = [vocabulary.setdefault(word, len(vocabulary) + 1) for word in _words(example)]
            # A shorter question is filled up with a word that is none: one run, covered only by its like.
            documents.append(np.array(numbers + [0] * (RUN - len(numbers)), dtype=np.int64))
        self._lengths = np.array([len(words) for words in documents], dtype=np.int64)
        words = np.concatenate(documents) if documents else np.zeros(0, dtype=np.int64)
        self._document, self._position, hashes = _runs(words, self._lengths)
        known, self._run = np.unique(hashes, return_inverse=True)
        found_in = np.unique(self._run * len(documents) + self._document) // max(len(documents), 1)
        self._wording = np.bincount(found_in, minlength=len(known)) > WORDING

    def covered(self, held: Sequence[Example], others: Sequence[Example]) -> list[Cover]:
        """Every pair in which ``LIMIT`` or more of the held example's question stands in the other's."""
        of_held, of_others = self._numbered(held), self._numbered(others)
        mine = of_held[self._document] >= 0
        theirs = of_others[self._document] >= 0
        wanted = np.zeros(len(self._wording), dtype=bool)
        wanted[self._run[mine]] = True
        theirs &= wanted[self._run]
        if not theirs.any():
            return []
        table = np.unique(self._run[theirs] * len(others) + of_others[self._document[theirs]])
        runs = _Runs(of_held[self._document[mine]], self._position[mine], self._run[mine], table, len(others))
        lengths = self._lengths[[self._at[example.id] for example in held]]
        found = list[Cover]()
        for start in range(0, len(candidates := runs.candidates(self._wording)), _CHUNK):
            found += runs.covers(candidates[start : start + _CHUNK], lengths)
        return found

    def _numbered(self, examples: Sequence[Example]) -> Ints:
        """For every document its position among ``examples``, -1 where it is not there."""
        numbered = np.full(len(self._lengths), -1, dtype=np.int64)
        for position, example in enumerate(examples):
            numbered[self._at[example.id]] = position
        return numbered


def decontaminate(parts: Parts, questions: Questions, before: Assignments) -> list[Drop]:
    """Leave out of ``parts`` what contains a held-out question, and say what.

    The training example goes, except where it was placed in an earlier build and the held-out one is new:
    models have been trained on it, so the new one could measure nothing. Training and validation give way
    to test, training to validation.
    """
    dropped: list[Drop] = []
    for held_out, others in _HELD_OUT:
        pool = [example for side in others for example in parts[side]]
        gone: dict[str, Drop] = {}
        covers = questions.covered(parts[held_out], pool)
        for cover in sorted(covers, key=lambda cover: (-cover.share, cover.held, cover.other)):
            held, other = parts[held_out][cover.held], pool[cover.other]
            if held.id in gone or other.id in gone:
                continue
            if other.id in before.examples and held.id not in before.examples:
                gone[held.id] = Drop.of(held, CONTAINED, other.id)
            else:
                gone[other.id] = Drop.of(other, CONTAINS[held_out], held.id)
        for side in (held_out, *others):
            parts[side] = [example for example in parts[side] if example.id not in gone]
        dropped += gone.values()
    return dropped


def check(parts: Parts, questions: Questions, linked: Iterable[tuple[str, str]]) -> None:
    """Look for leaks in what is about to be written, whatever was done to prevent them.

    A leak: one id, one incident, one text, a pair of ``linked`` ids (near duplicates), or a held-out
    question covered to ``LIMIT``, on two sides of the split.

    Raises:
        DataError: there are some; names up to five pairs.
    """
    leaks = sorted({*_same(parts), *_torn(parts, linked), *_contained(parts, questions)})
    if leaks:
        pairs = "; ".join(f"{why}: {left} in {one}, {right} in {two}" for why, left, one, right, two in leaks[:_SHOWN])
        more = f"; and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
        count = f"{len(leaks)} pair{'s' if len(leaks) > 1 else ''}"
        what = f"{count} of examples leak from one side of the split to another: {pairs}{more}"
        todo = "Nothing was written. Restore the splits file if it was changed by hand; else report this as a fault."
        raise DataError(what, "dataset", todo)


_Leak = tuple[str, str, str, str, str]


def _same(parts: Parts) -> Iterator[_Leak]:
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for side, examples in parts.items():
        for example in examples:
            facts = {"same id": example.id, "same incident": example.group_id, "same text": text_of(example)}
            for why, fact in facts.items():
                other_id, other_side = first.setdefault((why, fact), (example.id, side))
                if other_side != side:
                    yield why, example.id, side, other_id, other_side


def _torn(parts: Parts, linked: Iterable[tuple[str, str]]) -> Iterator[_Leak]:
    sides = {example.id: side for side, examples in parts.items() for example in examples}
    for left, right in linked:
        if left in sides and right in sides and sides[left] != sides[right]:
            yield "near duplicates", left, sides[left], right, sides[right]


def _contained(parts: Parts, questions: Questions) -> Iterator[_Leak]:
    for held_out, others in _HELD_OUT:
        pool = [(side, example) for side in others for example in parts[side]]
        for cover in questions.covered(parts[held_out], [example for _, example in pool]):
            held, (side, other) = parts[held_out][cover.held], pool[cover.other]
            yield f"{cover.share:.0%} contained", held.id, held_out, other.id, side


class _Runs(NamedTuple):
    """The runs of the held documents: whose, where, and which.

    ``table`` holds, sorted, ``run * width + other`` for every run in every other document.
    """

    document: Ints
    position: Ints
    run: Ints
    table: Ints
    width: int

    def candidates(self, wording: npt.NDArray[np.bool_]) -> Ints:
        """Pairs, as ``held * width + other``, that share a run that is not wording, sorted."""
        rare = ~wording[self.run]
        document, run = self.document[rare], self.run[rare]
        first = np.searchsorted(self.table, run * self.width)
        counts = np.searchsorted(self.table, (run + 1) * self.width) - first
        others = self.table[np.repeat(first, counts) + _steps(counts)] % self.width
        pairs: Ints = np.unique(np.repeat(document, counts) * self.width + others)
        return pairs

    def covers(self, pairs: Ints, lengths: Ints) -> Iterator[Cover]:
        """Those of the pairs whose shared runs cover ``LIMIT`` of the held document's words."""
        held, other = pairs // self.width, pairs % self.width
        order = np.argsort(self.document, kind="stable")
        document = self.document[order]
        first = np.searchsorted(document, held)
        counts = np.searchsorted(document, held, side="right") - first
        pair = np.repeat(np.arange(len(pairs)), counts)
        gram = order[np.repeat(first, counts) + _steps(counts)]
        key = self.run[gram] * self.width + other[pair]
        place = np.minimum(np.searchsorted(self.table, key), len(self.table) - 1)
        both = self.table[place] == key
        pair, position = pair[both], self.position[gram[both]]
        # A run covers RUN words, fewer where the next one of the same pair begins earlier.
        new = np.full(len(pair), RUN)
        follows = pair[1:] == pair[:-1]
        new[:-1][follows] = np.minimum(RUN, np.diff(position)[follows])
        share = np.bincount(pair, new, minlength=len(pairs)) / lengths[held]
        for at in np.flatnonzero(share >= LIMIT):
            yield Cover(int(held[at]), int(other[at]), float(share[at]))


def _steps(counts: Ints) -> Ints:
    """0, 1, 2, ... up to each count in turn."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _words(example: Example) -> list[str]:
    values: list[str] = []
    _gather(example.context, values)
    text = "\n".join(values)
    return _WORD.findall((_TIME.sub(" ", text) if ":" in text else text).lower())


def _gather(value: Any, into: list[str]) -> None:
    """Every value in a structure, without the names of its fields."""
    if isinstance(value, str):
        into.append(value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _gather(item, into)
    elif value is not None:
        into.append(str(value))


def _runs(words: Ints, lengths: Ints) -> tuple[Ints, Ints, npt.NDArray[np.uint64]]:
    """Document, place in it and 64-bit hash of every ``RUN`` words in a row."""
    mixed = words.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # splitmix64's constants
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    count = len(words) - RUN + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for step in range(RUN):
        hashes = hashes * np.uint64(0x5851F42D4C957F2D) + mixed[step : step + count]
    document = np.repeat(np.arange(len(lengths)), lengths)[:count]
    position = np.arange(count) - (np.cumsum(lengths) - lengths)[document]
    inside = position + RUN <= lengths[document]
    return document[inside], position[inside], hashes[inside]
