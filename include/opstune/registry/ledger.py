"""Who moved what, when and why: a signed line a move, each holding the hash of the line before it.

The ledger, not MLflow, says who is champion: MLflow keeps no history of aliases and lets anybody move them. A line
is a file of its own, never changed, so machines that share the disk cannot write into each other's. Which line comes
next is settled in MLflow before the file is written: see ``extended``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune.artifacts import atomic_path, fingerprint
from opstune.errors import IntegrityError
from opstune.security import signing

START = "0" * 64
Action = Literal["register", "promote", "rollback"]
_RESTORE = "Restore it from a backup; lines are only ever added."
_CONTEXT = b"opstune ledger line 1\n"


class Entry(BaseModel):
    """One move. ``moves`` is alias → [from, to]; ``before`` the hash of the line before.

    ``bundle`` is the sha256 of the version's signature, which covers every file of it, the verdict included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    who: str
    action: Action
    version: str
    bundle: str
    why: str
    moves: dict[str, tuple[str | None, str | None]]
    before: str
    hash: str = ""
    signed: signing.Signature | None = None

    def sealed(self, keys: Path) -> Entry:
        """With its hash, and signed by this home's key."""
        digest = self._digest()
        return self.model_copy(update={"hash": digest, "signed": signing.sign_bytes(_CONTEXT + digest.encode(), keys)})

    def check(self, keys: Path, where: str, todo: str = _RESTORE) -> None:
        """It is as it was written, by this home's key.

        Raises:
            IntegrityError: it is not; ``where`` names it.
        """
        if self.signed is None or self._digest() != self.hash:
            raise IntegrityError(f"{where} changed after it was signed", "ledger", todo)
        named = signing.Signed(where, f"the signature of {where}", "ledger", todo)
        signing.check_bytes(_CONTEXT + self.hash.encode(), self.signed, keys, named)

    def _digest(self) -> str:
        return fingerprint(self.model_dump(mode="json", exclude={"hash", "signed"}))


class Ledger:
    """The folder of lines. Reading it needs no lock."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self._folder = folder
        self._keys = keys

    def entries(self) -> list[Entry]:
        """Every line, oldest first.

        Raises:
            IntegrityError: a line was changed, removed, put elsewhere or written by another key; its file is named.
        """
        found: list[Entry] = []
        for number, file in enumerate(sorted(self._folder.glob("[0-9]*.json")), start=1):
            if file != self._file(number):
                raise IntegrityError(f"{self._file(number)} is missing", "ledger", _RESTORE)
            entry = read(file.read_text(), self._keys, str(file))
            if entry.before != (found[-1].hash if found else START):
                raise IntegrityError(f"{file} does not follow from the line before", "ledger", _RESTORE)
            found.append(entry)
        return found

    def put(self, number: int, entry: Entry) -> None:
        """Write line ``number``, on disk before this returns. Whoever writes it writes the same."""
        with atomic_path(self._file(number)) as partial, partial.open("w") as file:
            file.write(entry.model_dump_json())
            file.flush()
            os.fsync(file.fileno())

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06}.json"


def read(text: str, keys: Path, where: str, todo: str = _RESTORE) -> Entry:
    """A line from its text, checked.

    Raises:
        IntegrityError: it cannot be read, was changed or is not signed by this home's key.
    """
    try:
        entry = Entry.model_validate_json(text)
    except ValidationError as error:
        raise IntegrityError(f"{where} cannot be read", "ledger", todo) from error
    entry.check(keys, where, todo)
    return entry


def extended(entries: Sequence[Entry], claims: Mapping[int, str], keys: Path, where: str) -> list[Entry]:
    """The ledger with the lines that MLflow knows beyond it.

    Two machines may claim the same place at once. MLflow numbers claims one after the other, so of those that follow
    the same line the lowest number stands, for everybody who looks; the others are void.

    Args:
        claims: MLflow's number → a line's text, of every claim.
        where: the registered model that holds them.

    Raises:
        IntegrityError: a claim was not made by this home's key, or was changed; it is named.
    """
    known = {entry.model_dump_json() for entry in entries}
    following: dict[str, Entry] = {}
    todo = f"If {where} belongs to another home, share that home's disk or set another registry.model_name."
    for number, text in sorted(claims.items()):
        if text not in known:
            entry = read(text, keys, f"version {number} of {where} in MLflow", f"Delete it there. {todo}")
            following.setdefault(entry.before, entry)
    found = list(entries)
    while entry_after := following.pop(found[-1].hash if found else START, None):
        found.append(entry_after)
    return found


def standing(entries: Sequence[Entry]) -> dict[str, str]:
    """Alias → version after these moves."""
    aliases: dict[str, str | None] = {}
    for entry in entries:
        aliases.update({alias: to for alias, (_, to) in entry.moves.items()})
    return {alias: version for alias, version in aliases.items() if version is not None}


def registered(entries: Sequence[Entry]) -> dict[str, str]:
    """Version → the sha256 of its signature, in the order of registration."""
    return {entry.version: entry.bundle for entry in entries if entry.action == "register"}
