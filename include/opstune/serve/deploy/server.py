"""vLLM and llama.cpp's own server: a process that somebody starts with one model, looked at and questioned here.

A model is changed by starting another process beside the first, so there is nothing to upload and nothing to put
back: what production asks is whatever the operator's load balancer points at.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from opstune.engines.base import Case
from opstune.engines.endpoint import EndpointEngine
from opstune.errors import ConfigError, DeployError, EvaluationError
from opstune.http import Http
from opstune.serve.deploy.base import Release
from opstune.serve.deploy.smoke import Smoke
from opstune.settings import Connection, EndpointSettings, ServeSettings

log = logging.getLogger(__name__)


class _Entry(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Entry]


@dataclass(frozen=True)
class Kind:
    """A kind of server: the connection that tells where it is, and the form in which it takes a schema."""

    name: str
    connection: str
    schema_form: Literal["json_schema", "json_object"]


class ServerTarget:
    """A server that must be healthy, answer to the version's own name, and answer as tested."""

    def __init__(
        self, kind: Kind, connection: Connection | None, command: Sequence[str], settings: ServeSettings
    ) -> None:
        """
        Raises:
            ConfigError: nobody knows where it is; says how to start one.
        """
        if connection is None:
            todo = f"Start it: {shlex.join(command)}. Then give its address as the connection {kind.connection}."
            what = f"there is no connection {kind.connection}: nobody knows where {kind.name} answers"
            raise ConfigError(what, "connections", todo)
        self.name = kind.name
        self._kind = kind
        self._connection = connection
        self._command = command
        self._settings = settings

    def prepare(self, release: Release) -> list[str]:
        """Health, name, questions.

        Raises:
            ServiceDown: no answer, or the model is still being loaded when patience ends.
            DeployError: it serves another model, or answers other than tested.
        """
        smoke = Smoke(release, self._settings)
        address, names = self._look()
        if release.name not in names:
            what = f"the server answers to {', '.join(names) or 'no name'}, not to {release.name}"
            raise DeployError(what, address, f"Start one beside it: {shlex.join(self._command)}")
        told = [f"{address} is healthy and answers to {release.name}"]
        asked = EndpointSettings(
            schema_form=self._kind.schema_form, parallel=1, patience=self._settings.deploy.patience
        )
        engine = EndpointEngine(release.name, self._connection, asked, max_new_tokens=self._settings.max_new_tokens)
        told.append(smoke.check(lambda case: _ask(engine, case), release.name))
        for sentence in told:
            log.info("%s", sentence)
        return told

    def switch(self, release: Release) -> list[str]:
        return []

    def _look(self) -> tuple[str, list[str]]:
        """Where it is and the names that it answers to; both servers answer 503 to ``/health`` while they load."""
        with Http(self.name, self._connection, self._settings.deploy.patience) as http:
            http.send("GET", "health")
            found = http.parsed(_Models, http.get("v1/models"))
            return http.address, [model.id for model in found.data]


def _ask(engine: EndpointEngine, case: Case) -> str:
    try:
        return engine.answer([case], constrained=True)[0].text
    except EvaluationError as error:
        raise DeployError(error.what, error.where, error.todo) from error
