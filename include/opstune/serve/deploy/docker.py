"""A Docker build context from a version: llama.cpp's own server, the GGUF and its chat template, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.serve.deploy import llama_cpp
from opstune.serve.deploy.base import Release
from opstune.settings import ServeSettings

#: What of a version goes into the image. A list of names, so that nothing else ever does.
_SHIPPED = ("model.gguf", "chat_template.jinja")
_INSIDE = Path("/models")


def image(release: Release, settings: ServeSettings) -> str:
    """The image's name: its tag is the version, and never moves."""
    return f"{settings.deploy.image.repository}:{release.version}"


def write(release: Release, settings: ServeSettings, folder: Path) -> Ref:
    """Write the context to ``folder``, whole or not at all; a context of the same version and settings is left alone.

    Raises:
        InputError: the version holds no GGUF.
        IntegrityError: a file of the context that stands there was changed.
    """
    sha256 = release.digest()
    facts = {
        "name": release.name,
        "version": release.version,
        "image": image(release, settings),
        "base": settings.deploy.image.base,
        "sha256": sha256,
        "shipped": _SHIPPED,
        "inside": str(_INSIDE),
        "port": llama_cpp.PORT,
        "arguments": llama_cpp.arguments(release, settings, _INSIDE, "0.0.0.0", llama_cpp.PORT),
    }

    def make(out: Path) -> Mapping[str, float]:
        for name in _SHIPPED:
            shutil.copyfile(release.shipped / name, out / name)
        for template, name in (("Dockerfile.j2", "Dockerfile"), ("dockerignore.j2", ".dockerignore")):
            (out / name).write_text(rendered(f"docker/{template}", facts))
        return {"bytes": sum(file.stat().st_size for file in out.iterdir())}

    return artifacts.build(folder, "docker", {}, facts, make)


def rendered(template: str, facts: Mapping[str, Any]) -> str:
    """One of the files under ``templates``; a name that the facts do not have is an error, not an empty text."""
    environment = Environment(
        loader=PackageLoader("opstune.serve.deploy", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = json.dumps
    return environment.get_template(template).render(facts)
