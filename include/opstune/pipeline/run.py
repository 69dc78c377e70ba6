"""One retrain: where its files stand, what it starts from, and how a stage of it is made, signed and told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec

from opstune import tracking
from opstune.artifacts import Ref, write_text
from opstune.errors import ServiceDown
from opstune.registry import Registry, Version
from opstune.security import signing
from opstune.security.keys import Keyring
from opstune.settings import Mode, Settings

log = logging.getLogger(__name__)

#: MLflow hears of a training this often while it runs; a shorter one is told when it ends.
_LIVE_SECONDS = 30.0

P = ParamSpec("P")


@dataclass(frozen=True)
class Run:
    """One retrain: all its files stand under ``folder``, a folder a stage."""

    id: str
    mode: Mode
    settings: Settings
    #: One stage by hand, which no other follows: MLflow's run is finished when it ends.
    alone: bool = False

    @property
    def folder(self) -> Path:
        return self.settings.runs_dir / self.id

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.tracking_uri, self.settings.registry, self.settings.home)

    @property
    def champion(self) -> Version | None:
        """The champion as it was when the run began: what must be beaten. A run never competes with its own model.

        Raises:
            IntegrityError: a file of it changed; or, when the run begins, an alias was moved by hand in MLflow.
        """
        settled = self.folder / "champion.json"
        if settled.is_file():
            version = json.loads(settled.read_text())
            return self.registry.show(version) if version else None
        try:
            self.registry.agree()
        except ServiceDown as error:
            log.warning("Nobody could see whether MLflow agrees with the ledger, which says who is champion: %s", error)
        found = self.registry.champion()
        write_text(settled, json.dumps(found.version if found else None))
        return found

    @property
    def parent(self) -> Version | None:
        """What an incremental retrain starts from: the champion. A full one starts from the base."""
        return self.champion if self.mode == "incremental" else None

    def tracked(self, live: bool = False) -> AbstractContextManager[tracking.Tracker]:
        """One stage as the retrain's MLflow run sees it; a ``live`` one is told while it runs."""
        place = tracking.Place(
            self.settings.tracking_uri, self.settings.registry.experiment, self.settings.home / "tracking"
        )
        return tracking.run(place, self.id, last=self.alone, live_seconds=_LIVE_SECONDS if live else None)


def keyring(settings: Settings) -> Keyring:
    """The keys of the example store: files under ``keys/``, or the password of the connection opstune_store_key."""
    return Keyring.connected(settings.keys_dir, settings.connection)


def signed(
    run: Run, stage: str, make: Callable[Concatenate[Path, P], Ref], *inputs: P.args, **options: P.kwargs
) -> Ref:
    """As ``made``; a failure is told to the retrain's MLflow run."""
    with run.tracked():
        return made(run, stage, make, *inputs, **options)


def made(run: Run, stage: str, make: Callable[Concatenate[Path, P], Ref], *inputs: P.args, **options: P.kwargs) -> Ref:
    """What a stage makes into its folder, signed; or what stands there, if it is signed by this home's key."""
    folder = run.folder / stage
    return signing.signed(folder, run.settings.keys_dir, lambda: make(folder, *inputs, **options))


def refuse_foreign(run: Run, *refs: Ref) -> None:
    for ref in refs:
        signing.check(ref, run.settings.keys_dir)
