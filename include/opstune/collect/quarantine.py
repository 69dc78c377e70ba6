"""Records that could not become examples: reason, origin and the raw record, until they are repaired."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune.artifacts import atomic_path
from opstune.collect.plain import plain, shown
from opstune.errors import IntegrityError

#: A raw record is kept to see what is wrong with it, not as a copy of the source.
_RAW_CHARACTERS = 4000


class Refused(BaseModel):
    """One record that was refused. ``scope`` is the file it came from, empty for a database row."""

    model_config = ConfigDict(extra="forbid")

    source: str
    scope: str
    origin: str
    reason: str
    raw: str


class Quarantine:
    """``<store>/quarantine/<source>.jsonl``, readable by its owner only: raw records may hold secrets."""

    def __init__(self, store: Path, source: str) -> None:
        self.path = store / "quarantine" / f"{source}.jsonl"
        self.source = source
        self._standing = {entry.origin: entry for entry in self.entries()}
        self._refused: dict[str, Refused] = {}
        self._accepted: set[str] = set()

    def entries(self) -> list[Refused]:
        """Every record that stands refused now.

        Raises:
            IntegrityError: the file cannot be read.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")  # a record may hold other line ends
            return [Refused.model_validate_json(line) for line in lines if line]
        except FileNotFoundError:
            return []
        except ValidationError as error:
            raise IntegrityError(
                f"{self.path} is damaged", self.source, "Remove it and collect with --since."
            ) from error

    def refuse(self, scope: str, origin: str, reason: str, raw: Any) -> bool:
        """Keep a record that was refused; true if it did not stand here before, as it is now."""
        text = raw if isinstance(raw, str) else _as_json(raw)
        told = {"scope": scope, "origin": origin, "reason": reason, "raw": text[:_RAW_CHARACTERS]}
        entry = Refused(source=self.source, **plain(told))
        self._refused[origin] = entry
        return self._standing.get(origin) != entry

    def accept(self, origin: str) -> None:
        """A record from here became an example: what stood here about it is settled."""
        if origin in self._standing:
            self._accepted.add(origin)

    def save(self, read_scopes: Collection[str], all_scopes: Collection[str]) -> int:
        """Put down what stands refused after a run; returns how many.

        Files that were read anew replace all that stood about them; files that are gone take theirs along.
        """
        kept = {
            origin: entry
            for origin, entry in self._standing.items()
            if origin not in self._accepted and entry.scope in all_scopes and entry.scope not in read_scopes
        }
        standing = {**kept, **self._refused}
        if standing or self.path.exists():
            with atomic_path(self.path) as partial:
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.writelines(entry.model_dump_json() + "\n" for entry in standing.values())
        return len(standing)


def _as_json(raw: Any) -> str:
    """What of a record can be written down, however odd it is."""
    try:
        return json.dumps(raw, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return shown(raw)
