"""Which of many short literals stand in which of many texts: one pass over all bytes instead of a search for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

#: So many characters of a literal are looked up in a table; the rest is compared where they were found.
_LENGTH = 3
_FACTORS = (np.uint16(0x9E37), np.uint16(0x79B9), np.uint16(1))


class Literals:
    """ASCII literals of three characters or more, in lower case, found in any case."""

    def __init__(self, literals: Sequence[str]) -> None:
        self._literals: dict[bytes, list[tuple[bytes, int]]] = {}
        for number, literal in enumerate(literals):
            self._literals.setdefault(literal.encode()[:_LENGTH], []).append((literal.encode(), number))
        self._starts = np.zeros(1 << 16, bool)
        self._starts[_codes(b"".join(self._literals))[::_LENGTH]] = True

    def found(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Pairs of a text's position and a literal's number, each pair once, sorted by position."""
        raw = "\0".join(text.replace("\0", "\n") for text in texts).encode("utf-8", "surrogatepass") + bytes(_LENGTH)
        places = np.flatnonzero(self._starts[_codes(raw)])
        owners = np.searchsorted(np.flatnonzero(np.frombuffer(raw, np.uint8) == 0), places)
        folded = raw.lower()
        seen: set[tuple[int, int]] = set()
        for place, owner in zip(places.tolist(), owners.tolist(), strict=True):
            for literal, number in self._literals.get(folded[place : place + _LENGTH], ()):
                if folded.startswith(literal, place) and (owner, number) not in seen:
                    seen.add((owner, number))
                    yield owner, number


def _codes(raw: bytes) -> npt.NDArray[np.uint16]:
    """A number for every three characters in a row. Setting one bit turns letters into lower case."""
    letters = (np.frombuffer(raw, np.uint8) | np.uint8(0x20)).astype(np.uint16)
    size = len(letters) - _LENGTH + 1
    codes = np.zeros(size, np.uint16)
    for place, factor in enumerate(_FACTORS):
        codes += letters[place : place + size] * factor
    return codes
