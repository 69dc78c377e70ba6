"""The registry's face in MLflow: versions with their hashes as tags, and aliases that follow the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opstune import tracking
from opstune.registry.bundle import Version
from opstune.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIASES = ("challenger", "champion", "previous")
_VERSION_TAG = "opstune.version"
_HEAD_TAG = "opstune.ledger_head"


class Catalogue:
    """Every method raises ServiceDown where MLflow does not answer."""

    def __init__(self, tracking_uri: str, settings: RegistrySettings) -> None:
        self._uri = tracking_uri
        self._model = settings.model_name
        self._experiment = settings.experiment

    def open(self) -> None:
        """Connect, and make the registered model at first use."""
        with tracking.reachable(self._uri):
            if not self._client.search_registered_models(f"name = '{self._model}'"):
                self._client.create_registered_model(self._model)

    def versions(self) -> dict[str, str]:
        """Semantic version → MLflow's own number."""
        with tracking.reachable(self._uri):
            found = self._client.search_model_versions(f"name = '{self._model}'")
            ours = [version for version in found if _VERSION_TAG in version.tags]
            return {version.tags[_VERSION_TAG]: str(version.version) for version in ours}

    def add(self, version: Version, verdict: str) -> None:
        """Make a model version of a bundle."""
        run = tracking.find(self._uri, self._experiment, version.run_id)
        local = self._uri.startswith("sqlite:")
        # A server refuses sources on its clients' disks; there the bundle is named, not located.
        source = version.folder.as_uri() if local else f"opstune://{self._model}/{version.version}"
        with tracking.reachable(self._uri):
            tags, words = _tags(version, verdict), f"{self._model} {version.version}"
            self._client.create_model_version(self._model, source, run_id=run, tags=tags, description=words)

    def remove(self, version: str) -> None:
        """Forget a version whose registration failed."""
        if number := self.versions().get(version):
            with tracking.reachable(self._uri):
                self._client.delete_model_version(self._model, number)

    def aliases(self) -> dict[str, str]:
        """Alias → semantic version; an alias on a version that is not ours is ``mlflow:<number>``."""
        names = {number: version for version, number in self.versions().items()}
        with tracking.reachable(self._uri):
            found: dict[str, Any] = self._client.get_registered_model(self._model).aliases
        ours = {alias: str(number) for alias, number in found.items() if alias in ALIASES}
        return {alias: names.get(number, f"mlflow:{number}") for alias, number in ours.items()}

    def set_aliases(self, wanted: Mapping[str, str]) -> None:
        numbers, found = self.versions(), self.aliases()
        with tracking.reachable(self._uri):
            for alias in ALIASES:
                if alias in wanted and found.get(alias) != wanted[alias]:
                    self._client.set_registered_model_alias(self._model, alias, numbers[wanted[alias]])
                elif alias not in wanted and alias in found:
                    self._client.delete_registered_model_alias(self._model, alias)

    def head(self) -> str | None:
        """The hash of the last ledger line whose moves were all made here."""
        with tracking.reachable(self._uri):
            found: str | None = self._client.get_registered_model(self._model).tags.get(_HEAD_TAG)
            return found

    def set_head(self, line_hash: str) -> None:
        with tracking.reachable(self._uri):
            self._client.set_registered_model_tag(self._model, _HEAD_TAG, line_hash)

    @property
    def _client(self) -> MlflowClient:
        return tracking.connect(self._uri)


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
