"""From a registered version to one that answers: prepared beside what answers now, promoted, then switched to.

In this order the ledger never names a champion that nobody has seen answer, and production never asks a model
whose verdict was not looked at. Every step may be taken again: what is done is not done twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from opstune.artifacts import Ref
from opstune.errors import DeployError, OutsideError
from opstune.http import within
from opstune.registry import Registry, Version
from opstune.serve.deploy import Release, target_of, write_files
from opstune.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployed:
    """Where a version answers now, what was done for it, who was champion before, and how long it took."""

    version: Version
    to: str
    before: str | None
    steps: tuple[str, ...]
    seconds: float


def deploy_to(place: str, version: str, settings: Settings, *, who: str, why: str) -> Deployed:
    """Let a version answer at ``place`` and make it the champion, on its own signed verdict.

    Raises:
        InputError: there is no such version, or its verdict does not allow it.
        IntegrityError: a file of it changed; nothing was sent anywhere.
        ServiceDown: the place does not answer, or not in ``limit_seconds``, which says nothing about the version.
        DeployError: it answers there other than tested. What answered before does so again, and is the champion.
    """
    registry = _registry(settings)
    return _put(place, version, settings, registry, who, lambda: registry.promote(version, who=who, why=why))


def roll_back(settings: Settings, *, who: str, why: str) -> Version:
    """Make the previous champion champion again, and let it answer where ``serve.deploy.to`` says.

    Raises:
        InputError: there is no previous version.
        IntegrityError, ServiceDown, DeployError: as ``deploy_to``, and everything is as before.
    """
    registry, place = _registry(settings), settings.serve.deploy.to
    if place == "local":  # the champion's alias alone is what answers
        return registry.rollback(who=who, why=why)
    previous = next((version for version in registry.list() if "previous" in version.aliases), None)
    if previous is None:  # as the registry says it
        return registry.rollback(who=who, why=why)
    return _put(place, previous.version, settings, registry, who, lambda: registry.rollback(who=who, why=why)).version


def write_deployment(kind: str, version: str, settings: Settings, folder: Path) -> Ref:
    """Files from which others let a version answer: a ``docker`` build context or ``kubernetes`` manifests.

    Nothing answers yet, so nobody is promoted; but only a version that may be is written.

    Raises:
        InputError: there is no such version, or its verdict does not allow it.
        IntegrityError: a file of it changed, or one that was written before.
    """
    return write_files(kind, _release(_registry(settings).proven(version), settings), settings.serve, folder)


def _put(
    place: str, version: str, settings: Settings, registry: Registry, who: str, move: Callable[[], Version]
) -> Deployed:
    """Prepare a version, ``move`` the champion's alias to it, switch to it."""
    started, limit = time.monotonic(), settings.serve.deploy.limit_seconds
    with FileLock(settings.home / ".deploy.lock"):
        release = _release(registry.proven(version), settings)
        champion = registry.champion()
        before = champion.version if champion else None
        with target_of(place, release, settings.serve, settings.connection) as target:
            try:
                with within(limit):
                    steps = target.prepare(release)
            except OutsideError as error:
                error.again = (
                    f"Another attempt goes on from what is there, for {limit:g} s (serve.deploy.limit_seconds)."
                )
                raise
            moved = move()
            try:
                steps += target.switch(release)
            except DeployError as error:
                if before not in (None, version):
                    registry.rollback(who=who, why=f"{version} does not answer at {place} as tested: {error.what}")
                raise
    seconds = time.monotonic() - started
    log.info("%s answers at %s after %.1f s", release.name, place, seconds)
    return Deployed(moved, place, before, tuple(steps), seconds)


def _registry(settings: Settings) -> Registry:
    return Registry(settings.tracking_uri, settings.registry, settings.home)


def _release(version: Version, settings: Settings) -> Release:
    skills = tuple(settings.dataset.skills)
    return Release(settings.registry.model_name, version.version, version.folder, version.base.name, skills)
