"""The places by name. Adding one: write its file, list it here and in ``DeploySettings.to``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from opstune.artifacts import Ref
from opstune.errors import ConfigError
from opstune.serve.deploy import docker, kubernetes, llama_cpp, vllm
from opstune.serve.deploy.base import Release, Target
from opstune.serve.deploy.local import LocalTarget
from opstune.serve.deploy.ollama import OllamaTarget
from opstune.serve.deploy.ollama_api import Ollama
from opstune.serve.deploy.server import Kind, ServerTarget
from opstune.settings import Connection, ServeSettings

#: The connection that tells where a place is.
CONNECTIONS: Final = {"ollama": "opstune_ollama", "vllm": "opstune_vllm", "llama-cpp": "opstune_llama_cpp"}
#: What is written as files for others to build and apply.
FILES: Final = ("docker", "kubernetes")


@contextmanager
def target_of(
    place: str, release: Release, settings: ServeSettings, connection: Callable[[str], Connection | None]
) -> Iterator[Target]:
    """The place to deploy to, connected.

    Raises:
        ConfigError: its connection is missing.
    """
    if place == "local":
        yield LocalTarget(settings)
        return
    name = CONNECTIONS[place]
    found, patience = connection(name), settings.deploy.patience
    if place == "ollama":
        if found is None:
            todo = f"Give its address as the Airflow connection {name}, or OPSTUNE__CONNECTIONS__{name.upper()}__URL."
            raise ConfigError(f"there is no connection {name}: nobody knows where Ollama answers", "connections", todo)
        with Ollama(found, patience) as api:
            yield OllamaTarget(api, settings)
        return
    command = {"vllm": vllm.command, "llama-cpp": llama_cpp.command}[place](release, settings)
    kind = Kind(place, name, "json_schema" if place == "vllm" else "json_object")
    yield ServerTarget(kind, found, command, settings)


def write_files(place: str, release: Release, settings: ServeSettings, folder: Path) -> Ref:
    """A Docker build context, or Kubernetes manifests for the image that is built of it; again the same is nothing."""
    write = {"docker": docker.write, "kubernetes": kubernetes.write}[place]
    return write(release, settings, folder)
