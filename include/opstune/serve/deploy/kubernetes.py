"""Kubernetes manifests for the image of a version: Deployment, Service, what may talk to it, and one file for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.serve.deploy import llama_cpp
from opstune.serve.deploy.base import Release
from opstune.serve.deploy.docker import image, rendered
from opstune.settings import ServeSettings

MANIFESTS = ("deployment", "service", "serviceaccount", "networkpolicy")
_MIB = 1 << 20


def write(release: Release, settings: ServeSettings, folder: Path) -> Ref:
    """Write the manifests to ``folder``, whole or not at all; those of the same version and settings are left alone.

    Raises:
        InputError: the version holds no GGUF.
        IntegrityError: a file that stands there was changed.
    """
    asked = settings.deploy.image
    facts = {
        "app": release.model,
        "version": release.version,
        "image": image(release, settings),
        "sha256": release.digest(),
        "namespace": asked.namespace,
        "replicas": asked.replicas,
        "cpu": f"{round(asked.cpu * 1000)}m",
        "memory": f"{_memory_mib(release, settings)}Mi",
        "port": llama_cpp.PORT,
    }

    def make(out: Path) -> Mapping[str, float]:
        for name in (*MANIFESTS, "kustomization"):
            text = rendered(f"kubernetes/{name}.yaml.j2", {**facts, "manifests": MANIFESTS})
            (out / f"{name}.yaml").write_text(text)
        return {"manifests": len(MANIFESTS)}

    return artifacts.build(folder, "kubernetes", {}, facts, make)


def _memory_mib(release: Release, settings: ServeSettings) -> int:
    """What is configured, else half as much again as the weights and 512 MiB: a rule of thumb for cache and buffers."""
    if configured := settings.deploy.image.memory_gb:
        return math.ceil(configured * 1e9 / _MIB)
    return math.ceil(release.gguf.stat().st_size * 1.5 / _MIB) + 512
