"""Who moved what, when and why: one JSON line a move, each holding the hash of the line before it.

The ledger, not MLflow, says who is champion: MLflow keeps no history of aliases and lets anybody move
them. MLflow's aliases follow the ledger, and its copy of the last hash shows a ledger cut short.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune.artifacts import fingerprint
from opstune.errors import IntegrityError

START = "0" * 64
Action = Literal["register", "promote", "rollback"]
_RESTORE = "Restore it from a backup; it is only ever appended to."


class Entry(BaseModel):
    """One move. ``moves`` is alias → [from, to]; ``before`` the hash of the line before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    who: str
    action: Action
    version: str
    why: str
    moves: dict[str, tuple[str | None, str | None]]
    before: str
    hash: str = ""

    def sealed(self) -> Entry:
        return self.model_copy(update={"hash": fingerprint(self.model_dump(mode="json", exclude={"hash"}))})


class Ledger:
    """The file. Appending needs the registry's lock, reading does not."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def entries(self) -> list[Entry]:
        """Every line, oldest first.

        Raises:
            IntegrityError: a line was changed, removed or cannot be read.
        """
        if not self._file.is_file():
            return []
        found: list[Entry] = []
        # What follows the last newline is a line that is being written, or one that a crash cut short.
        for number, line in enumerate(self._file.read_text().split("\n")[:-1], start=1):
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                raise IntegrityError(f"line {number} of {self._file} cannot be read", "ledger", _RESTORE) from error
            if entry.before != (found[-1].hash if found else START) or entry.sealed().hash != entry.hash:
                what = f"line {number} of {self._file} does not follow from the line before"
                raise IntegrityError(what, "ledger", _RESTORE)
            found.append(entry)
        return found

    def append(
        self, action: Action, version: str, moves: dict[str, tuple[str | None, str | None]], who: str, why: str
    ) -> Entry:
        """Write one line, on disk before this returns. A line that a crash cut short is removed first."""
        self._drop_torn_line()
        before = self.entries()
        entry = Entry(
            at=datetime.now(UTC), who=who, action=action, version=version, why=why, moves=moves,
            before=before[-1].hash if before else START,
        ).sealed()  # fmt: skip
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.write(entry.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def _drop_torn_line(self) -> None:
        """A line without its end was never acknowledged to anybody."""
        if not self._file.is_file():
            return
        content = self._file.read_bytes()
        if content and not content.endswith(b"\n"):
            with self._file.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
                os.fsync(file.fileno())


def standing(entries: list[Entry]) -> dict[str, str]:
    """Alias → version after these moves."""
    aliases: dict[str, str | None] = {}
    for entry in entries:
        aliases.update({alias: to for alias, (_, to) in entry.moves.items()})
    return {alias: version for alias, version in aliases.items() if version is not None}
