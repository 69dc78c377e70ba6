"""The registry's face in MLflow: versions with their hashes as tags, aliases that follow the ledger, and the order
of the ledger's lines.

MLflow takes any tag twice, so no tag can claim anything. What it never gives twice is the number of a model version,
also to two machines that ask at once, and deleting one does not free its number. So every line of the ledger is
first a version of a second registered model, ``<model>-ledger``, and its number is its place in the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opstune import tracking
from opstune.registry.bundle import Version
from opstune.registry.ledger import Entry
from opstune.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ALIASES = ("challenger", "champion", "previous")
_VERSION_TAG = "opstune.version"
_HEAD_TAG = "opstune.ledger_head"
_LINE_TAG = "opstune.line"
#: A description longer than 5,000 characters does not go into MLflow's table.
_LONGEST = 1000
_MISSING, _EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True)
class Seen:
    """What MLflow shows: its number of each version, where the aliases stand, and the last line they follow.

    An alias on a version that is not ours is at ``mlflow:<number>``.
    """

    numbers: Mapping[str, str]
    aliases: Mapping[str, str]
    head: str | None


class Catalogue:
    """Every method raises ServiceDown where MLflow does not answer, and InputError where it refuses."""

    def __init__(self, tracking_uri: str, settings: RegistrySettings) -> None:
        self._uri = tracking_uri
        self._model = settings.model_name
        self._experiment = settings.experiment
        self.queue = f"{settings.model_name}-ledger"

    def seen(self) -> Seen:
        """Everything at one look; the registered model is made at first use."""
        from mlflow.exceptions import MlflowException

        with tracking.reachable(self._uri):
            try:
                found = self._client.get_registered_model(self._model)
            except MlflowException as error:
                if error.error_code != _MISSING:
                    raise
                self._make(self._model)
                return Seen({}, {}, None)
            numbers = _numbers(self._versions(self._model))
            names = {number: version for version, number in numbers.items()}
            ours = {alias: str(number) for alias, number in found.aliases.items() if alias in ALIASES}
            aliases = {alias: names.get(number, f"mlflow:{number}") for alias, number in ours.items()}
            return Seen(numbers, aliases, found.tags.get(_HEAD_TAG))

    def claims(self, after: int = 0) -> dict[int, str]:
        """Every line that was ever claimed, or those with a higher number than ``after``, by their numbers."""
        with tracking.reachable(self._uri):
            found = self._versions(self.queue, after)
            return {int(version.version): version.tags[_LINE_TAG] for version in found if _LINE_TAG in version.tags}

    def claim(self, entry: Entry) -> int:
        """Queue a line, and return its number; the queue is made at first use."""
        from mlflow.exceptions import MlflowException

        words = f"{entry.action} {entry.version}, {entry.who}: {entry.why}"[:_LONGEST]
        source, tags = f"opstune://{self._model}/{entry.version}", {_LINE_TAG: entry.model_dump_json()}
        with tracking.reachable(self._uri):
            try:
                made = self._client.create_model_version(self.queue, source, tags=tags, description=words)
            except MlflowException as error:
                if error.error_code != _MISSING:
                    raise
                self._make(self.queue)
                made = self._client.create_model_version(self.queue, source, tags=tags, description=words)
            return int(made.version)

    def give_up(self, number: int) -> None:
        """Take back a line that came too late."""
        with tracking.reachable(self._uri):
            self._client.delete_model_version(self.queue, str(number))

    def add(self, version: Version, verdict: str) -> None:
        """Make a model version of a bundle. Two machines may do it at once: the lower number stands."""
        run = tracking.find(self._uri, self._experiment, version.run_id)
        local = self._uri.startswith("sqlite:")
        # A server refuses sources on its clients' disks; there the bundle is named, not located.
        source = version.folder.as_uri() if local else f"opstune://{self._model}/{version.version}"
        with tracking.reachable(self._uri):
            tags, words = _tags(version, verdict), f"{self._model} {version.version}"
            self._client.create_model_version(self._model, source, run_id=run, tags=tags, description=words)

    def set_aliases(self, wanted: Mapping[str, str], seen: Seen) -> None:
        """Move what does not stand where it should."""
        with tracking.reachable(self._uri):
            for alias in ALIASES:
                if alias in wanted and seen.aliases.get(alias) != wanted[alias]:
                    self._client.set_registered_model_alias(self._model, alias, seen.numbers[wanted[alias]])
                elif alias not in wanted and alias in seen.aliases:
                    self._client.delete_registered_model_alias(self._model, alias)

    def set_head(self, line_hash: str) -> None:
        """Note the last line whose moves were all made here."""
        with tracking.reachable(self._uri):
            self._client.set_registered_model_tag(self._model, _HEAD_TAG, line_hash)

    def forged(self, version: Version, verdict: str) -> str | None:
        """The first tag of a version in MLflow that is not what its bundle says, or none."""
        wanted = _tags(version, verdict)
        with tracking.reachable(self._uri):
            for found in self._versions(self._model):
                if found.tags.get(_VERSION_TAG) == version.version:
                    return next((tag for tag, value in wanted.items() if found.tags.get(tag) != value), None)
        return _VERSION_TAG

    def _make(self, model: str) -> None:
        """A registered model, unless it is there: another machine may make it meanwhile."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise

    def _versions(self, model: str, after: int = 0) -> list[ModelVersion]:
        """The versions of a registered model with a higher number than ``after``, the lowest first."""
        found, token = [], None
        wanted = f"name = '{model}' AND version_number > {after}"
        while True:
            page = self._client.search_model_versions(wanted, page_token=token)
            found.extend(page)
            if not (token := page.token):
                return sorted(found, key=lambda version: int(version.version))

    @property
    def _client(self) -> MlflowClient:
        return tracking.connect(self._uri)


def _numbers(versions: Iterable[ModelVersion]) -> dict[str, str]:
    """Semantic version → MLflow's number, the lowest where there are two."""
    found: dict[str, str] = {}
    for version in versions:
        if _VERSION_TAG in version.tags:
            found.setdefault(version.tags[_VERSION_TAG], str(version.version))
    return found


def _tags(version: Version, verdict: str) -> dict[str, str]:
    tags = {
        _VERSION_TAG: version.version,
        tracking.RUN_TAG: version.run_id,
        "opstune.mode": version.mode,
        "opstune.parent": version.parent or "base",
        "opstune.verdict": verdict,
        "opstune.base": f"{version.base.name}@{version.base.sha256}",
        "opstune.git_revision": version.git_revision,
    }
    return {**tags, **{f"sha256.{name}": stage.sha256 for name, stage in version.stages.items()}}
