"""Names of one incident's things: composed from its number, so that no two incidents ever share one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from random import Random

from opstune.simulate.words import CODE_LETTERS, FIRST, SECOND

_CODES = len(CODE_LETTERS) ** 4
#: Coprime to every pool size used below, so that ``number * stride`` visits each value once.
_STRIDES = {"service": 10_007, "tenant": 15_013, "code": 71_237}
_ROLES = ("api", "worker", "web", "sync", "core", "feed", "hub", "store")
_SPACES = ("prod", "live", "apps", "team", "main", "ops")
_CONTAINERS = ("server", "worker", "proxy", "cache", "main", "loader", "agent", "index", "sender", "reader")


@dataclass(frozen=True)
class Names:
    """The service of incident ``number`` and all that belongs to it.

    Unique while ``number`` stays below ``len(FIRST) * len(SECOND)``; every compound name holds the
    service's two words or a four-letter code that no other incident has.
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
        second, first = self._pair(_STRIDES["tenant"])
        return f"{first}-{second}-{self.rng.choice(_SPACES)}"

    @cached_property
    def container(self) -> str:
        return self.rng.choice(_CONTAINERS)

    def other_container(self) -> str:
        return self.rng.choice([name for name in _CONTAINERS if name != self.container])

    def coded(self, *stems: str) -> str:
        """A stem and a fresh code, as hosts, nodes, claims and clients are called."""
        return f"{self.rng.choice(stems)}-{self._code()}"

    def pod(self) -> str:
        return f"{self.deployment}-{self._code()}"

    def _pair(self, stride: int) -> tuple[str, str]:
        size = len(FIRST) * len(SECOND)
        index = (self.number * stride + stride) % size
        return FIRST[index // len(SECOND)], SECOND[index % len(SECOND)]

    @cached_property
    def _used(self) -> set[str]:
        return set()

    def _code(self) -> str:
        """Four letters: three of the incident's own number in a scrambled base, one that varies within it."""
        while True:
            index = ((self.number * len(CODE_LETTERS) + self.rng.randrange(len(CODE_LETTERS))) * _STRIDES["code"]) % _CODES
            code = ""
            for _ in range(4):
                index, letter = divmod(index, len(CODE_LETTERS))
                code += CODE_LETTERS[letter]
            if code not in self._used:
                self._used.add(code)
                return code
