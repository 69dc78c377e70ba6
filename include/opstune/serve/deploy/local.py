"""llama.cpp in this process: nothing is sent anywhere, and the champion's alias is what production asks."""

from __future__ import annotations

import logging

from opstune.serve.deploy.base import Release
from opstune.serve.deploy.smoke import Smoke
from opstune.settings import ServeSettings

log = logging.getLogger(__name__)


class LocalTarget:
    name = "local"

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings

    def prepare(self, release: Release) -> list[str]:
        """Load the version's GGUF and see that it answers.

        Raises:
            DeployError: it has a valid answer to no question.
            EvaluationError: it cannot be loaded.
        """
        Smoke(release, self._settings).answer_here()
        return [f"{release.name} answers in this process"]

    def switch(self, release: Release) -> list[str]:
        return []
