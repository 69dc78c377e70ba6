"""What of one side of the split stands in another: left out when the sides are drawn, looked for again before writing.

Near duplicates are found by how much two texts share of both together. A test question that stands whole in a
longer training example shares little of that, so here it is the share of what the question has of its own: its
runs of ``RUN`` words that hardly any other example has. An alert rule's wording, which all its alerts share, says
nothing. Field names are left out, and so are times of day.

Measured: between unrelated examples of the generated history (74 days, 717 test questions) the largest share is
0.50. Of questions planted inside other text with none, one, two or three words changed 100, 100, 88 and 61 % share
0.6. Of 6,000 made-up alerts of the 954 real rules, each on a host of its own, on 200 and on 40 hosts, 10 of 5,392,
5 of 5,038 and 5 of 4,471 share so much with one of the held-out tenth. Runs of 3 words find 97 and 83 % of two and
three changes, but 43, 55 and 73 alerts; runs of 8 find 71, 30 and 12 % and no alert: a question has 15 to 50 words,
so one changed word breaks most of the long runs. Copies that stand alone are near duplicates, found before.
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

RUN = 4
LIMIT = 0.6
#: A run in more examples than this is wording.
WORDING = 20
#: A question with fewer runs of its own cannot be told from others like it: only the very same question counts.
TELLING = 4
#: Whose questions must not stand in which other sides.
_HELD_OUT: tuple[tuple[Split, tuple[Split, ...]], ...] = (("test", ("train", "validation")), ("validation", ("train",)))
_SHOWN = 5
_WORD = re.compile(r"\w+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.,]+\S*|\b\d\d:\d\d:\d\d\S*")

CONTAINS = {"test": "contains a test example", "validation": "contains a validation example"}
CONTAINED = "is contained in an example that was placed before"
REASONS = {*CONTAINS.values(), CONTAINED}

Ints = npt.NDArray[np.int64]


class Cover(NamedTuple):
    """``share`` of the runs that only ``held`` has stand in ``other``; both are positions."""

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
        self._same: list[int] = []
        first: dict[bytes, int] = {}
        documents: list[Ints] = []
        for example in examples:
            numbers = [vocabulary.setdefault(word, len(vocabulary)) for word in _words(example)]
            self._at[example.id] = len(documents)
            documents.append(np.array(numbers, dtype=np.int64))
            self._same.append(first.setdefault(documents[-1].tobytes(), self._at[example.id]))
        document, run = _runs(documents)
        rare = np.bincount(run, minlength=1)[run] <= WORDING
        #: Which document has which telling run, by run.
        self._document, self._run = document[rare], run[rare]
        self._telling = np.bincount(self._document, minlength=len(documents))

    def covered(self, held: Sequence[Example], others: Sequence[Example]) -> list[Cover]:
        """Every pair in which ``LIMIT`` or more of what is the held question's own stands in the other.

        The same question is covered whole, whatever it has of its own.
        """
        if not held or not others:
            return []
        of_held, of_others = self._numbered(held)[self._document], self._numbered(others)[self._document]
        mine, theirs = np.flatnonzero(of_held >= 0), np.flatnonzero(of_others >= 0)
        first = np.searchsorted(self._run[theirs], self._run[mine])
        counts = np.searchsorted(self._run[theirs], self._run[mine], side="right") - first
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        other = of_others[theirs[np.repeat(first, counts) + steps]]
        pairs, shared = np.unique(np.repeat(of_held[mine], counts) * len(others) + other, return_counts=True)
        telling = self._telling[[self._at[example.id] for example in held]][pairs // len(others)]
        share = np.where(telling >= TELLING, shared / np.maximum(telling, 1), 0)
        found = {
            (int(pair) // len(others), int(pair) % len(others)): float(part)
            for pair, part in zip(pairs[share >= LIMIT], share[share >= LIMIT], strict=True)
        }
        found |= dict.fromkeys(self._asked_alike(held, others), 1.0)
        return [Cover(*pair, share) for pair, share in sorted(found.items())]

    def _numbered(self, examples: Sequence[Example]) -> Ints:
        """For every document its position among ``examples``, -1 where it is not there."""
        numbered = np.full(len(self._same), -1, dtype=np.int64)
        for position, example in enumerate(examples):
            numbered[self._at[example.id]] = position
        return numbered

    def _asked_alike(self, held: Sequence[Example], others: Sequence[Example]) -> Iterator[tuple[int, int]]:
        asked: dict[int, list[int]] = {}
        for position, example in enumerate(held):
            asked.setdefault(self._same[self._at[example.id]], []).append(position)
        for position, example in enumerate(others):
            for one in asked.get(self._same[self._at[example.id]], ()):
                yield one, position


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

    A leak: one id, one incident, one text, a pair of ``linked`` ids (near duplicates), or a held-out question
    that stands in another example (``Questions.covered``), on two sides of the split.

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


def _runs(documents: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Which document has which run of ``RUN`` words, each pair once, in the order of the runs."""
    lengths = np.array([len(words) for words in documents], dtype=np.int64)
    words = np.concatenate([*documents, np.zeros(RUN, dtype=np.int64)]).astype(np.uint64)
    mixed = words * np.uint64(0x9E3779B97F4A7C15)  # splitmix64's constants
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    count = int(lengths.sum())
    hashes = np.zeros(count, dtype=np.uint64)
    for step in range(RUN):
        hashes = hashes * np.uint64(0x5851F42D4C957F2D) + mixed[step : step + count]
    document = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(count) + RUN <= np.cumsum(lengths)[document]
    _, run = np.unique(hashes[inside], return_inverse=True)
    pairs = np.unique(run * max(len(documents), 1) + document[inside])
    return pairs % max(len(documents), 1), pairs // max(len(documents), 1)
