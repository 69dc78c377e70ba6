"""Names of one incident's things: composed from its number, so that no two incidents ever share one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from random import Random

from opstune.simulate.words import CODE_LETTERS, FIRST, SECOND

_BASE = len(CODE_LETTERS)
_CODES = _BASE**3
#: Codes an incident owns; things of different stems may share one.
_PER_INCIDENT = 13
#: Coprime to the sizes of the pools, so that ``number * stride`` visits each value once.
_STRIDES = {"service": 10_007, "tenant": 15_013, "code": 8_191}
_ROLES = ("api", "worker", "web", "sync", "core", "feed", "hub", "store")
_CONTAINERS = ("server", "worker", "proxy", "cache", "main", "loader", "agent", "index", "sender", "reader")


@dataclass(frozen=True)
class Names:
    """The service of incident ``number`` and all that belongs to it.

    Every name holds the service's two words, or a code that no other incident uses with the same stems
    (numbers below 47,000). At most 13 names of the same stems can be drawn.
    """

    number: int
    rng: Random

    @cached_property
    def service(self) -> str:
        return "-".join(self._pair(_STRIDES["service"]))

    @cached_property
    def deployment(self) -> str:
        return f"{self.service}-{self.rng.choice(_ROLES)}" if self.rng.random() < 0.7 else self.service

    @cached_property
    def namespace(self) -> str:
        first, second = self._pair(_STRIDES["tenant"])
        return f"{second}-{first}"

    @cached_property
    def container(self) -> str:
        return self.rng.choice(_CONTAINERS)

    def other_container(self) -> str:
        return self.rng.choice([name for name in _CONTAINERS if name != self.container])

    def coded(self, *stems: str) -> str:
        """A stem and a code that no incident used with it, as hosts, nodes, claims and clients are called."""
        codes = self._left.setdefault(stems, self._codes())
        return f"{self.rng.choice(stems)}-{codes.pop()}"

    def pod(self) -> str:
        return self.coded("web", "api", "task", "app")

    @cached_property
    def _left(self) -> dict[tuple[str, ...], list[str]]:
        return {}

    def _pair(self, stride: int) -> tuple[str, str]:
        lap, number = divmod(self.number, len(FIRST) * len(SECOND))
        index = (number * stride + stride) % (len(FIRST) * len(SECOND))
        return FIRST[index // len(SECOND)], SECOND[index % len(SECOND)] + (str(lap) if lap else "")

    def _codes(self) -> list[str]:
        """The incident's own codes in random order: its number in a scrambled base, three letters or more."""
        lap, number = divmod(self.number, _CODES // _PER_INCIDENT)
        codes = []
        for own in range(_PER_INCIDENT):
            index = ((number * _PER_INCIDENT + own) * _STRIDES["code"]) % _CODES
            code = CODE_LETTERS[lap % _BASE] * (lap > 0)
            for _ in range(3):
                index, letter = divmod(index, _BASE)
                code += CODE_LETTERS[letter]
            codes.append(code)
        self.rng.shuffle(codes)
        return codes
