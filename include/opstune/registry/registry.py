"""The registry: numbers, bundles, signatures, aliases and the ledger.

A version is registered when its signed bundle stands under ``models/``; whatever a crash left undone after that (the
ledger's line, MLflow's entry, an alias) is done by whoever comes next: see ``writing``.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import InputError, IntegrityError
from opstune.registry import bundle, numbers, proof, signing
from opstune.registry.bundle import Facts, Stage, Version
from opstune.registry.catalogue import Catalogue
from opstune.registry.ledger import Entry, Ledger, registered, standing
from opstune.registry.shelf import Shelf
from opstune.registry.writing import State, Writer
from opstune.settings import Mode, RegistrySettings

log = logging.getLogger(__name__)


class Registry:
    """Versions under ``home/models``, the ledger and the signing key beside them, MLflow following.

    Reading (``champion``, ``show``, ``proven``, ``list``, ``ledger``) never touches MLflow, whose import alone takes
    seconds. Methods that return a version raise IntegrityError where a byte of it changed.
    """

    def __init__(self, tracking_uri: str, settings: RegistrySettings, home: Path) -> None:
        self._keys = home / "keys"
        self._shelf = Shelf(home)
        self._ledger = Ledger(home / "ledger", self._keys)
        self._catalogue = Catalogue(tracking_uri, settings)
        self._writer = Writer(home, self._ledger, self._catalogue, self._shelf)

    def champion(self) -> Version | None:
        """The version in production by the ledger, verified, or none."""
        entries = self._ledger.entries()
        version = standing(entries).get("champion")
        return self._shelf.load(version, entries) if version else None

    def show(self, version: str) -> Version:
        """One version, verified.

        Raises:
            InputError: it was never registered.
            IntegrityError: a file of it changed, is missing or was added; it is named.
        """
        return self._shelf.load(version, self._ledger.entries())

    def proven(self, version: str) -> Version:
        """As ``show``, and its verdicts, signed here, let it answer.

        Raises:
            InputError: a verdict says something else than promote, or none is about the GGUF in the bundle.
        """
        return self._shelf.proven(version, self._ledger.entries())

    def list(self) -> Sequence[Version]:
        """Every registered version, oldest number first; signatures are checked when one is loaded."""
        entries = self._ledger.entries()
        return [self._shelf.read(version, entries) for version in sorted(registered(entries), key=numbers.parse)]

    def ledger(self) -> Sequence[Entry]:
        """Every move, oldest first, signatures and the chain of hashes checked."""
        return self._ledger.entries()

    def agree(self) -> None:
        """MLflow shows what the ledger says; what a crash left undone is done first.

        Raises:
            IntegrityError: an alias was moved by hand, or the ledger was cut short.
        """
        self._writer.do(lambda state: None)

    def verify(self, version: str) -> Version:
        """As ``show``, and MLflow shows of it and of the aliases what bundle and ledger say.

        Raises:
            IntegrityError: also where an alias or a tag was changed by hand, or the ledger was cut short.
        """
        self.agree()
        found = self.show(version)
        if tag := self._catalogue.forged(found, proof.decision(found)):
            todo = f"Set it as the bundle has it: {found.folder / bundle.FACTS}."
            raise IntegrityError(f"the tag {tag} of {version} was changed by hand", "MLflow", todo)
        return found

    def register(self, refs: Mapping[str, Ref], mode: Mode, parent: str | None, run_id: str) -> Version:
        """Bundle, sign and number what a run made, as the challenger. The same run again is the same version.

        Args:
            refs: stage → ref; ``dataset``, ``adapter`` and ``gguf`` at least. Every other one becomes a
                folder of the bundle under its name; "evaluation" and "verdict" are what promotion asks for.
            parent: the version that an incremental run started from.

        Raises:
            InputError: the refs are not of one run, or lack what a version must hold.
            IntegrityError: a file of a ref changed, or it was not signed here.
            ServiceDown: MLflow did not answer; what was begun is gone, or completed by whoever comes next.
        """
        bundle.check_refs(refs, self._keys)
        stages, base = bundle.stages_of(refs), bundle.base_of(refs["adapter"])

        def enter(state: State) -> Version:
            if known := self._same(run_id, stages, state.entries):
                return known
            taken = {*registered(state.entries), *state.seen.numbers}
            while True:
                facts = Facts(
                    version=self._next(taken, state.entries, mode, parent, base),
                    run_id=run_id, mode=mode, parent=parent,
                    registered_at=datetime.now(UTC), base=base, stages=stages, seeds=bundle.seeds_of(refs),
                    git_revision=artifacts.git_revision(), packages=artifacts.packages(),
                )  # fmt: skip
                if folder := self._put(draft, facts):
                    return self._shelf.load(facts.version, self._writer.enter(folder, state).entries)
                taken.add(facts.version)

        if known := self._same(run_id, stages, self._ledger.entries()):
            self.agree()
            return known
        with self._draft() as draft:
            bundle.assemble(draft, refs)
            return self._writer.do(enter)

    def promote(self, version: str, *, who: str, why: str) -> Version:
        """Make a version champion, on the strength of the verdict that was signed with it.

        Raises:
            InputError: there is no such version, or its verdict does not allow it.
            IntegrityError: a file of the bundle changed, so its verdict proves nothing; or an alias was moved by hand.
        """

        def move(state: State) -> Version:
            champion = state.aliases.get("champion")
            if champion == version:
                return self._shelf.load(version, state.entries)
            wanted = {"champion": version, "previous": champion}
            if state.aliases.get("challenger") == version:
                wanted["challenger"] = None
            state = self._writer.move("promote", version, wanted, who, why, state)
            return self._shelf.read(version, state.entries)

        return self._writer.do(move)

    def rollback(self, *, who: str, why: str) -> Version:
        """Swap champion and previous.

        Raises:
            InputError: there is no previous version.
            IntegrityError: a file of the previous version changed, or an alias was moved by hand.
        """

        def swap(state: State) -> Version:
            if "previous" not in state.aliases:
                raise InputError("there is no previous version to go back to", "registry", "Promote one instead.")
            target = state.aliases["previous"]
            wanted = {"champion": target, "previous": state.aliases["champion"]}
            state = self._writer.move("rollback", target, wanted, who, why, state)
            return self._shelf.read(target, state.entries)

        return self._writer.do(swap)

    def _same(self, run_id: str, stages: Mapping[str, Stage], entries: Sequence[Entry]) -> Version | None:
        """The version that a run's model is registered as."""
        for known in (self._shelf.read(version, entries) for version in registered(entries)):
            if known.run_id == run_id and all(known.stages.get(name) == stages[name] for name in bundle.REQUIRED):
                log.info("run %s is registered as %s", run_id, known.version)
                return self._shelf.load(known.version, entries)
        return None

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        """A folder to fill, which goes unless it became a version."""
        draft = self._shelf.folder / f".{uuid.uuid4().hex}.partial"
        draft.mkdir(parents=True)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _put(self, draft: Path, facts: Facts) -> Path | None:
        """The signed bundle to its place in one step, or none where another machine has just put one there."""
        artifacts.write_text(draft / bundle.FACTS, facts.model_dump_json(indent=1))
        signing.sign(draft, self._keys)
        folder = self._shelf.folder / facts.version
        try:
            return draft.rename(folder)
        except OSError:
            if folder.is_dir():
                return None
            raise

    def _next(
        self, taken: set[str], entries: Sequence[Entry], mode: Mode, parent: str | None, base: bundle.Base
    ) -> str:
        latest = numbers.highest(registered(entries))
        changed = latest is not None and self._shelf.read(latest, entries).base.sha256 != base.sha256
        return numbers.following(taken, mode, parent, changed)
