"""How the registry writes: one at a time on a machine, in MLflow's order between machines, nothing half done.

A step decides on what the ledger says and writes its line in this order: claimed in MLflow, written to the disk,
aliases moved, the line noted in MLflow as done. A crash in between is finished by the next writer, and reading these
in the opposite order tells a line that is still to be written from one that somebody took away.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from opstune.errors import InputError, IntegrityError
from opstune.registry import bundle, proof, signing
from opstune.registry.catalogue import ALIASES, Catalogue, Seen
from opstune.registry.ledger import START, Action, Entry, Ledger, extended, registered, standing
from opstune.registry.shelf import Shelf

log = logging.getLogger(__name__)

T = TypeVar("T")
_DAY = 24 * 3600.0


class _Overtaken(Exception):
    """Another machine wrote first: what was decided on no longer holds."""


@dataclass(frozen=True)
class State:
    """What a step decides on: the ledger, what MLflow shows, and the number of the last line that is queued there."""

    entries: Sequence[Entry]
    seen: Seen
    last: int

    @property
    def aliases(self) -> dict[str, str]:
        return standing(self.entries)


class Writer:
    """Writes to the ledger under ``home`` and lets MLflow follow."""

    def __init__(self, home: Path, ledger: Ledger, catalogue: Catalogue, shelf: Shelf) -> None:
        self._lock = home / ".registry.lock"
        self._keys = home / "keys"
        self._shelf = shelf
        self._ledger = ledger
        self._catalogue = catalogue

    def do(self, step: Callable[[State], T]) -> T:
        """Run a step on a ledger that nobody tampered with; again where another machine's line came first.

        Raises:
            IntegrityError: an alias was moved by hand, the ledger was cut short, or a bundle that waits for its
                line is not as it was signed.
            ServiceDown: MLflow did not answer.
        """
        self._shelf.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            while True:
                try:
                    return step(self._settle())
                except _Overtaken:
                    log.info("another machine wrote to the registry first; looking again")

    def enter(self, folder: Path, state: State) -> State:
        """The line of a bundle that stands: it is registered, as the challenger.

        Raises:
            IntegrityError: the bundle or a verdict in it is not as it was signed here.
        """
        signing.verify(folder, self._keys)
        found = bundle.read(folder)
        proof.attest(found, self._keys)
        wanted = {"challenger": found.version}
        return self.move("register", found.version, wanted, "opstune", f"run {found.run_id}", state)

    def move(
        self, action: Action, version: str, wanted: Mapping[str, str | None], who: str, why: str, state: State
    ) -> State:
        """The one place where aliases move: who becomes champion is proven, the ledger is written, MLflow follows.

        Returns what is the case afterwards.

        Raises:
            InputError: nobody says who moves them and why, or the signed verdict does not let the version be champion.
            IntegrityError: the version that becomes champion is not as it was registered.
        """
        if not who.strip() or not why.strip():
            raise InputError("the ledger keeps who moved an alias and why", "registry", "Say both: --who and --why.")
        entries, aliases = state.entries, state.aliases
        if (champion := wanted.get("champion")) is not None:
            self._shelf.proven(champion, entries)
        moves = {alias: (aliases.get(alias), to) for alias, to in wanted.items() if aliases.get(alias) != to}
        entry = Entry(
            at=datetime.now(UTC), who=who, action=action, version=version,
            bundle=signing.digest(self._shelf.folder / version), why=why, moves=moves,
            before=entries[-1].hash if entries else START,
        ).sealed(self._keys)  # fmt: skip
        number = self._catalogue.claim(entry)
        # Numbers have no gaps that nobody made: after the last one that was seen, nobody can have come between.
        if number != state.last + 1 and entry not in self._extended(entries)[0]:
            self._catalogue.give_up(number)
            raise _Overtaken
        known = [*entries, entry]
        self._write(entries, known)
        settled = self._follow(known, state.seen, number)
        told = ", ".join(f"{alias} {old or 'none'} → {new or 'none'}" for alias, (old, new) in moves.items())
        log.info("%s %s: %s (%s: %s)", action, version, told, who, why)
        return settled

    def _settle(self) -> State:
        """What the last writer left undone is done, and nothing was moved by hand."""
        for draft in self._shelf.folder.glob(".*.partial"):
            if time.time() - draft.stat().st_mtime > _DAY:
                shutil.rmtree(draft, ignore_errors=True)
        seen = self._catalogue.seen()
        entries = self._ledger.entries()
        _refuse_cut_ledger(entries, seen)
        known, last = self._extended(entries)
        self._write(entries, known)
        _refuse_moved_aliases(known, seen)
        state = State(known, seen, last)
        if known and seen.head != known[-1].hash:
            state = self._follow(known, seen, last)
        for folder in bundle.standing_in(self._shelf.folder):
            if folder.name not in registered(state.entries):
                state = self.enter(folder, state)
        return state

    def _extended(self, entries: Sequence[Entry], after: int = 0) -> tuple[list[Entry], int]:
        """The ledger with the lines that MLflow knows beyond it, and the number of the last one there.

        ``after`` is the last number that was looked at already.
        """
        claims = self._catalogue.claims(after)
        return extended(entries, claims, self._keys, self._catalogue.queue), max(claims, default=after)

    def _write(self, entries: Sequence[Entry], known: Sequence[Entry]) -> None:
        for number, entry in enumerate(known[len(entries) :], start=len(entries) + 1):
            self._ledger.put(number, entry)

    def _follow(self, entries: Sequence[Entry], seen: Seen, last: int) -> State:
        """MLflow shows the ledger: also the lines that another machine adds meanwhile, whichever of the two is last.

        ``last`` is the number of the ledger's last line in MLflow.
        """
        while True:
            missing = [version for version in registered(entries) if version not in seen.numbers]
            for version in missing:
                found = bundle.read(self._shelf.folder / version)
                self._catalogue.add(found, proof.decision(found))
            if missing:
                seen = self._catalogue.seen()
            aliases = standing(entries)
            self._catalogue.set_aliases(aliases, seen)
            self._catalogue.set_head(entries[-1].hash)
            known, last = self._extended(entries, last)
            if len(known) == len(entries):
                return State(known, Seen(seen.numbers, aliases, known[-1].hash), last)
            self._write(entries, known)
            entries, seen = known, self._catalogue.seen()


def _refuse_cut_ledger(entries: Sequence[Entry], seen: Seen) -> None:
    if seen.head and seen.head not in {entry.hash for entry in entries}:
        what = f"the ledger lost lines that MLflow knows of: it ends after line {len(entries)}"
        raise IntegrityError(what, "ledger", "Restore the folder from a backup.")


def _refuse_moved_aliases(entries: Sequence[Entry], seen: Seen) -> None:
    """An alias stands where the last line that MLflow followed put it, or where a later line wants it."""
    since = [START, *(entry.hash for entry in entries)].index(seen.head or START)
    for alias in ALIASES:
        allowed = [standing(entries[:end]).get(alias) for end in range(since, len(entries) + 1)]
        if seen.aliases.get(alias) not in allowed:
            here, there = allowed[-1] or "nothing", seen.aliases.get(alias, "nothing")
            todo = f"Point it back at {here} in MLflow; `opstune models` moves aliases."
            raise IntegrityError(f"the alias {alias} was moved by hand to {there}", "MLflow", todo)
