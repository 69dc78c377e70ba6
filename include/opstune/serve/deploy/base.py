"""What is deployed, and what a place to deploy to can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opstune.artifacts import sha256_file
from opstune.errors import InputError


@dataclass(frozen=True)
class Release:
    """A verified version as a place needs it: ``folder`` is its bundle, ``base`` the model that it was trained on.

    ``skills`` are those that it was taught: it is asked about no others.
    """

    model: str
    version: str
    folder: Path
    base: str
    skills: tuple[str, ...]

    @property
    def name(self) -> str:
        """How servers know it: a name that no other version ever has."""
        return f"{self.model}:{self.version}"

    @property
    def shipped(self) -> Path:
        """The folder of the GGUF, with its Modelfile, tokenizer and chat template."""
        return self.folder / "gguf"

    @property
    def gguf(self) -> Path:
        return self.shipped / "model.gguf"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    def digest(self) -> str:
        """The sha256 of the GGUF.

        Raises:
            InputError: the version has none.
        """
        if not self.gguf.is_file():
            raise InputError(f"version {self.version} holds no GGUF", str(self.gguf), "Register the run again.")
        return sha256_file(self.gguf)


class Target(Protocol):
    """A place that answers. Both methods may be called again after a failure, and do nothing twice.

    Each returns what it did, a sentence a step, and raises ServiceDown where the place does not answer (nothing is
    decided then), DeployError where it answers and cannot use this version.
    """

    name: str

    def prepare(self, release: Release) -> list[str]:
        """Put the version beside what answers now, and question it there. Production is as before."""
        ...

    def switch(self, release: Release) -> list[str]:
        """Let production answer with it. After a DeployError what was there answers again."""
        ...
