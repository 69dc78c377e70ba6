"""The registry: numbers, bundles, signatures, aliases and the ledger, under one lock.

A version is registered when its signed bundle stands under ``models/``; whatever a crash left undone
after that (MLflow's entry, the ledger's line, an alias) is done by whoever comes next.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import InputError, IntegrityError, ServiceDown
from opstune.registry import bundle, numbers, signing
from opstune.registry.bundle import Facts, Version
from opstune.registry.catalogue import Catalogue
from opstune.registry.ledger import Action, Entry, Ledger, standing
from opstune.settings import Mode, RegistrySettings

log = logging.getLogger(__name__)


class Registry:
    """Versions under ``home/models``, the ledger and the signing key beside them, MLflow following.

    Reading (``champion``, ``show``, ``list``, ``ledger``) never touches MLflow, whose import alone
    takes seconds. Methods that return a version raise IntegrityError where a byte of it changed.
    """

    def __init__(self, tracking_uri: str, settings: RegistrySettings, home: Path) -> None:
        self._home = home
        self._models = home / "models"
        self._keys = home / "keys"
        self._ledger = Ledger(home / "ledger.jsonl")
        self._catalogue = Catalogue(tracking_uri, settings)

    def champion(self) -> Version | None:
        """The version in production by the ledger, verified, or none."""
        version = standing(self._ledger.entries()).get("champion")
        return self.show(version) if version else None

    def show(self, version: str) -> Version:
        """One version, verified.

        Raises:
            InputError: it was never registered.
            IntegrityError: a file of it changed, is missing or was added; it is named.
        """
        found = self._read(version)
        signing.verify(found.folder, self._keys)
        return found

    def list(self) -> Sequence[Version]:
        """Every registered version, oldest number first; signatures are checked when one is loaded."""
        return [self._read(version) for version in sorted(self._registered(), key=numbers.parse)]

    def ledger(self) -> Sequence[Entry]:
        """Every move, oldest first, its chain of hashes checked."""
        return self._ledger.entries()

    def verify(self, version: str) -> Version:
        """As ``show``, and the ledger and MLflow agree with each other.

        Raises:
            IntegrityError: also where an alias was moved by hand or the ledger was cut short.
        """
        with self._writing():
            return self.show(version)

    def register(self, refs: Mapping[str, Ref], mode: Mode, parent: str | None, run_id: str) -> Version:
        """Bundle, sign and number what a run made, as the challenger. The same run again is the same version.

        Args:
            refs: stage → ref; ``dataset``, ``adapter`` and ``gguf`` at least. Refs of kind
                "evaluation" and "verdict" go with it under their own names.
            parent: the version that an incremental run started from.

        Raises:
            InputError: the refs are not of one run.
            IntegrityError: a file of a ref changed.
            ServiceDown: MLflow did not answer; nothing is left behind.
        """
        bundle.check_refs(refs)
        with self._writing():
            stages = bundle.stages_of(refs)
            for known in self.list():
                if known.run_id == run_id and all(known.stages.get(name) == stages[name] for name in bundle.REQUIRED):
                    log.info("run %s is registered as %s", run_id, known.version)
                    return self.show(known.version)
            base = bundle.base_of(refs["adapter"])
            facts = Facts(
                version=self._next(mode, parent, base), run_id=run_id, mode=mode, parent=parent,
                registered_at=datetime.now(UTC), base=base, stages=stages, seeds=bundle.seeds_of(refs),
                git_revision=artifacts.git_revision(), packages=artifacts.packages(),
            )  # fmt: skip
            self._put(facts, refs)
            return self.show(facts.version)

    def promote(self, version: str, *, who: str, why: str) -> Version:
        """Make a version champion, on the strength of the verdict that was signed with it.

        Raises:
            InputError: there is no such version, or its verdict does not allow it.
            IntegrityError: a file of the bundle changed, so its verdict proves nothing.
        """
        with self._writing():
            found = self.show(version)
            _check_verdicts(found)
            champion = standing(self._ledger.entries()).get("champion")
            if champion == version:
                return found
            self._move("promote", version, {"champion": version, "previous": champion, "challenger": None}, who, why)
        return self.show(version)

    def rollback(self, *, who: str, why: str) -> Version:
        """Swap champion and previous.

        Raises:
            InputError: there is no previous version.
            IntegrityError: a file of the previous version changed.
        """
        with self._writing():
            aliases = standing(self._ledger.entries())
            if "previous" not in aliases:
                raise InputError("there is no previous version to go back to", "registry", "Promote one instead.")
            target = self.show(aliases["previous"]).version
            self._move("rollback", target, {"champion": target, "previous": aliases["champion"]}, who, why)
        return self.show(target)

    def _read(self, version: str) -> Version:
        if version not in self._registered():
            known = ", ".join(self._registered()) or "none"
            raise InputError(f"there is no version {version}", "registry", f"Registered: {known}.")
        aliases = standing(self._ledger.entries())
        return bundle.read(self._models / version, [alias for alias, at in aliases.items() if at == version])

    def _registered(self) -> Sequence[str]:
        return [entry.version for entry in self._ledger.entries() if entry.action == "register"]

    def _next(self, mode: Mode, parent: str | None, base: bundle.Base) -> str:
        taken = {*self._registered(), *self._catalogue.versions()}
        latest = numbers.highest(self._registered())
        changed = latest is not None and self._read(latest).base.sha256 != base.sha256
        return numbers.following(taken, mode, parent, changed)

    def _put(self, facts: Facts, refs: Mapping[str, Ref]) -> None:
        """The bundle to its place in one step, then MLflow and the ledger; an error takes all of it back."""
        folder, partial = self._models / facts.version, self._models / f".{facts.version}.partial"
        try:
            partial.mkdir(parents=True)
            bundle.assemble(partial, refs, facts)
            signing.sign(partial, self._keys)
            partial.rename(folder)
            self._complete(bundle.read(folder))
        except BaseException:
            if facts.version not in self._registered():
                self._withdraw(facts.version)
            raise

    def _withdraw(self, version: str) -> None:
        for folder in (self._models / f".{version}.partial", self._models / version):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(ServiceDown):
            self._catalogue.remove(version)

    def _complete(self, found: Version) -> None:
        """MLflow's entry and the ledger's line of a bundle that stands."""
        if found.version not in self._catalogue.versions():
            self._catalogue.add(found, _verdict_of(found))
        if found.version not in self._registered():
            self._move("register", found.version, {"challenger": found.version}, "register", f"run {found.run_id}")

    def _move(self, action: Action, version: str, wanted: Mapping[str, str | None], who: str, why: str) -> None:
        """The one place where aliases move: first the ledger, then MLflow, then MLflow's copy of the last hash."""
        aliases = standing(self._ledger.entries())
        moves = {alias: (aliases.get(alias), to) for alias, to in wanted.items() if aliases.get(alias) != to}
        self._ledger.append(action, version, moves, who, why)
        self._follow()
        told = ", ".join(f"{alias} {old or 'none'} → {new or 'none'}" for alias, (old, new) in moves.items())
        log.info("%s %s: %s (%s: %s)", action, version, told, who, why)

    def _follow(self) -> None:
        entries = self._ledger.entries()
        self._catalogue.set_aliases(standing(entries))
        self._catalogue.set_head(entries[-1].hash)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The lock, taken after what the last writer left undone was done and nothing was moved by hand."""
        self._models.mkdir(parents=True, exist_ok=True)
        with FileLock(self._home / ".registry.lock"):
            self._catalogue.open()
            self._settle()
            yield

    def _settle(self) -> None:
        for leftover in self._models.glob(".*.partial"):
            shutil.rmtree(leftover)
        entries, head = self._ledger.entries(), self._catalogue.head()
        if head and head not in {entry.hash for entry in entries}:
            todo = "Restore it from a backup."
            raise IntegrityError(f"{self._home / 'ledger.jsonl'} lost lines that MLflow knows of", "ledger", todo)
        if entries and head == entries[-1].hash:
            self._refuse_moved_aliases(standing(entries))
        done = set(self._registered()) & set(self._catalogue.versions())
        for folder in sorted(path for path in self._models.iterdir() if path.is_dir() and path.name not in done):
            signing.verify(folder, self._keys)
            self._complete(bundle.read(folder))
        if entries and head != entries[-1].hash:
            self._follow()

    def _refuse_moved_aliases(self, wanted: Mapping[str, str]) -> None:
        found = self._catalogue.aliases()
        for alias in sorted({*wanted, *found}):
            if wanted.get(alias) != found.get(alias):
                here, there = wanted.get(alias, "nothing"), found.get(alias, "nothing")
                todo = f"Point it back at {here} in MLflow; `opstune models` moves aliases."
                raise IntegrityError(f"the alias {alias} was moved by hand to {there}", "MLflow", todo)


def _check_verdicts(version: Version) -> None:
    """Every verdict says promote, and one of them is about the GGUF itself."""
    for name in version.of_kind("verdict"):
        told = json.loads((version.folder / name / "verdict.json").read_text())
        if told["verdict"] != "promote":
            todo = f"Its report says why: {version.folder / name / 'report.html'}."
            raise InputError(f"the verdict on {version.version} is {told['verdict']}", name, todo)
    gguf = version.stages["gguf"].sha256
    measured = {
        version.stages[name].sha256
        for name in version.of_kind("evaluation")
        if gguf in bundle.inputs_of(version.folder / name)
    }
    if not any(measured & bundle.inputs_of(version.folder / name) for name in version.of_kind("verdict")):
        todo = "Evaluate the GGUF, gate it, and register the run again."
        raise InputError(f"no verdict of {version.version} is about the GGUF that ships", "registry", todo)


def _verdict_of(version: Version) -> str:
    names = version.of_kind("verdict")
    if not names:
        return "none"
    return str(json.loads((version.folder / names[-1] / "verdict.json").read_text())["verdict"])
