"""Sections of the configuration about other machines: the trainer's pod, and where a version answers.

``settings`` has the other sections and is what everybody imports from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Field(ge=0.0, le=1.0)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Patience(Section):
    """How long one request to an outside system may take, and how often and how patiently it is asked again."""

    timeout_seconds: float = Field(30.0, gt=0)
    attempts: int = Field(5, ge=1)
    backoff_seconds: float = Field(1.0, ge=0)
    longest_wait_seconds: float = Field(60.0, ge=0)


class Claim(Section):
    """A persistent volume claim, mounted where the workers have the same volume: paths must mean the same there."""

    claim: str = Field(min_length=1)
    path: Path
    read_only: bool = False


class Toleration(Section):
    """A taint of nodes that the trainer's pod may stand on, in Kubernetes' own words."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class PodSettings(Section):
    """The trainer's pod, where ``train.place`` is ``pod``. The cluster's address is a connection."""

    image: str | None = None
    image_pull_secrets: list[str] = Field(default_factory=list)
    namespace: str = "default"
    service_account: str | None = None
    user: int | None = Field(None, ge=1)
    claims: list[Claim] = Field(default_factory=list)
    gpu_resource: str = "nvidia.com/gpu"
    cpu: float = Field(4.0, gt=0)
    memory_gb: float | None = Field(None, gt=0)
    shared_memory_gb: float = Field(8.0, ge=0)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    start_minutes: float = Field(30.0, gt=0)


class ImageSettings(Section):
    """The container that serves a version, and how it stands in Kubernetes."""

    base: str = "ghcr.io/ggml-org/llama.cpp:server-b11312"
    repository: str = Field("opstune", pattern=r"^[a-z0-9][a-z0-9._:/-]*$")
    namespace: str = Field("default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    replicas: int = Field(2, ge=1)
    cpu: float = Field(2.0, gt=0)
    memory_gb: float | None = Field(None, gt=0)


class DeploySettings(Section):
    """Where a version answers. Addresses are connections: opstune_ollama, opstune_vllm, opstune_llama_cpp."""

    to: Literal["local", "ollama", "vllm", "llama-cpp"] = "local"
    production: str = Field("prod", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    agreement: float = Share
    parallel: int = Field(4, ge=1)
    image: ImageSettings = ImageSettings()
    limit_seconds: float = Field(300.0, gt=0)
    patience: Patience = Patience(timeout_seconds=120.0, attempts=4)


class ServeSettings(Section):
    """How a model answers."""

    context_tokens: int = Field(1024, ge=128)
    max_new_tokens: int = Field(160, ge=1)
    threads: int = Field(2, ge=1)
    deploy: DeploySettings = DeploySettings(agreement=0.75)
