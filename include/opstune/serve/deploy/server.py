"""vLLM and llama.cpp's own server: a process that somebody starts with one model, looked at and questioned here.

A model is changed by starting another process beside the first, so there is nothing to upload and nothing to put
back: what production asks is whatever the operator's load balancer points at.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from opstune.engines.base import Case
from opstune.errors import ConfigError, DeployError
from opstune.serve.deploy.base import Release
from opstune.serve.deploy.openai_api import Server
from opstune.serve.deploy.smoke import Smoke
from opstune.settings import ServeSettings

log = logging.getLogger(__name__)


class ServerTarget:
    """A server that must be healthy, answer to the version's own name, and answer as tested."""

    def __init__(self, name: str, server: Server, command: Sequence[str], settings: ServeSettings) -> None:
        self.name = name
        self._server = server
        self._command = command
        self._settings = settings

    def prepare(self, release: Release) -> list[str]:
        """Health, name, questions.

        Raises:
            ServiceDown: no answer, or the model is still being loaded when patience ends.
            DeployError: it serves another model, or answers other than tested.
        """
        smoke = Smoke(release, self._settings)
        smoke.answer_here()
        self._server.health()
        names = self._server.models()
        if release.name not in names:
            what = f"the server answers to {', '.join(names) or 'no name'}, not to {release.name}"
            raise DeployError(what, self._server.address, f"Start one beside it: {shlex.join(self._command)}")
        told = [f"{self._server.address} is healthy and answers to {release.name}"]
        told.append(smoke.check(lambda case: self._ask(release, case), release.name))
        for sentence in told:
            log.info("%s", sentence)
        return told

    def switch(self, release: Release) -> list[str]:
        return []

    def _ask(self, release: Release, case: Case) -> str:
        return self._server.ask(release.name, case, self._settings.max_new_tokens)


def not_connected(place: str, connection: str, command: Sequence[str]) -> ConfigError:
    """There is no address to look at; says how to begin."""
    todo = f"Start it: {shlex.join(command)}. Then give its address as the connection {connection}."
    return ConfigError(f"there is no connection {connection}: nobody knows where {place} answers", "connections", todo)
