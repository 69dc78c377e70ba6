"""From a registered version to one that answers: prepared beside what answers now, promoted, then switched to.

In this order the ledger never names a champion that nobody has seen answer, and production never asks a model
whose verdict was not looked at. Every step may be taken again: what is done is not done twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from opstune.artifacts import Ref
from opstune.errors import DeployError
from opstune.registry import Registry, Version
from opstune.serve.deploy import Release, target_of, write_files
from opstune.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployed:
    """Where a version answers now, what was done for it, and who was champion before."""

    version: Version
    to: str
    before: str | None
    steps: tuple[str, ...]


def deploy_to(place: str, version: str, settings: Settings, *, who: str, why: str) -> Deployed:
    """Let a version answer at ``place`` and make it the champion, on its own signed verdict.

    Raises:
        InputError: there is no such version, or its verdict does not allow it.
        IntegrityError: a file of it changed; nothing was sent anywhere.
        ServiceDown: the place does not answer, which says nothing about the version.
        DeployError: it answers there other than tested. What answered before does so again, and is the champion.
    """
    registry = _registry(settings)
    with FileLock(settings.home / ".deploy.lock"):
        release = _release(registry.proven(version), settings)
        champion = registry.champion()
        before = champion.version if champion else None
        with target_of(place, release, settings.serve, settings.connection) as target:
            steps = target.prepare(release)
            promoted = registry.promote(version, who=who, why=why)
            try:
                steps += target.switch(release)
            except DeployError as error:
                if before not in (None, version):
                    registry.rollback(who=who, why=f"{version} does not answer at {place} as tested: {error.what}")
                raise
    return Deployed(promoted, place, before, tuple(steps))


def write_deployment(kind: str, version: str, settings: Settings, folder: Path) -> Ref:
    """Files from which others let a version answer: a ``docker`` build context or ``kubernetes`` manifests.

    Nothing answers yet, so nobody is promoted; but only a version that may be is written.

    Raises:
        InputError: there is no such version, or its verdict does not allow it.
        IntegrityError: a file of it changed, or one that was written before.
    """
    return write_files(kind, _release(_registry(settings).proven(version), settings), settings.serve, folder)


def _registry(settings: Settings) -> Registry:
    return Registry(settings.tracking_uri, settings.registry, settings.home)


def _release(version: Version, settings: Settings) -> Release:
    skills = tuple(settings.dataset.skills)
    return Release(settings.registry.model_name, version.version, version.folder, version.base.name, skills)
