"""A registered version as a folder that needs nothing outside itself.

``<stage>/`` is a sealed copy of each stage's folder, so each is still a ref that ``artifacts.verify``
accepts: adapter, gguf (model, Modelfile, tokenizer, chat template), evaluation and verdict with its
report, before and after conversion. Of the dataset there are ``dataset.json`` (with the ids that the
next incremental build must know), ``card.html`` and the manifest, not the examples. ``version.json``
holds the lineage, ``model.sig`` signs it all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune import artifacts
from opstune.artifacts import MANIFEST, Ref
from opstune.errors import DataError, InputError, IntegrityError
from opstune.settings import Mode

FACTS = "version.json"
REQUIRED = ("dataset", "adapter", "gguf")
_OF_DATASET = ("dataset.json", "card.html", MANIFEST)


class Base(BaseModel):
    """The base model by name and by the sha256 of its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class Stage(BaseModel):
    """What a stage made, without where it stood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    sha256: str
    counts: dict[str, float]


class Facts(BaseModel):
    """The lineage that is signed with the files: what made this version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    run_id: str
    mode: Mode
    parent: str | None
    registered_at: datetime
    base: Base
    stages: dict[str, Stage]
    seeds: dict[str, int]
    git_revision: str
    packages: dict[str, str]


class Version(Facts):
    """A registered version: its lineage, where it stands, and which aliases point at it."""

    folder: Path
    aliases: tuple[str, ...] = ()

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def gguf(self) -> Path:
        return self.folder / "gguf" / "model.gguf"

    @property
    def dataset(self) -> Path:
        """The folder with ``dataset.json``: what an incremental retrain takes as its parent."""
        return self.folder / "dataset"

    @property
    def report(self) -> Path | None:
        """The newest verdict's page: of what ships where that was judged, else of the adapter."""
        found = [self.folder / stage / "report.html" for stage in self.of_kind("verdict")]
        return found[-1] if found else None

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, stage in self.stages.items() if stage.kind == kind]


def check_refs(refs: Mapping[str, Ref]) -> None:
    """Every stage's files are as sealed, and each stage was made from the one that is registered with it.

    Raises:
        InputError: a needed stage is missing, or two stages belong to different runs.
        IntegrityError: a file changed; it is named.
    """
    if missing := [name for name in REQUIRED if name not in refs]:
        raise InputError(f"a version needs {', '.join(missing)}", "register", "Pass the refs of a finished run.")
    for ref in refs.values():
        artifacts.verify(ref)
    sources = {
        "adapter": {refs["dataset"].sha256},
        "gguf": {refs["adapter"].sha256},
        "evaluation": {refs["adapter"].sha256, refs["gguf"].sha256},
        "verdict": {ref.sha256 for ref in refs.values() if ref.kind == "evaluation"},
    }
    for name, ref in refs.items():
        if ref.kind in sources and not sources[ref.kind] & inputs_of(ref.path):
            todo = "Register the refs of one run together."
            raise InputError(f"the {name} was not made from the files it is registered with", "register", todo)


def inputs_of(stage: Path) -> set[str]:
    """The sha256 of everything that a stage was made from."""
    manifest = json.loads((stage / MANIFEST).read_text())
    return {source["sha256"] for source in manifest["inputs"].values() if source}


def assemble(out: Path, refs: Mapping[str, Ref], facts: Facts) -> None:
    """Copy everything that belongs to a version into ``out``."""
    for name, ref in refs.items():
        if ref.kind == "examples":
            continue
        if ref.kind == "dataset":
            (out / name).mkdir(parents=True)
            for file in _OF_DATASET:
                shutil.copy2(ref.path / file, out / name / file)
        else:
            shutil.copytree(ref.path, out / name)
    artifacts.write_text(out / FACTS, facts.model_dump_json(indent=1))


def stages_of(refs: Mapping[str, Ref]) -> dict[str, Stage]:
    return {name: Stage(kind=ref.kind, sha256=ref.sha256, counts=ref.counts) for name, ref in refs.items()}


def seeds_of(refs: Mapping[str, Ref]) -> dict[str, int]:
    settings = {name: ref.manifest.get("settings", {}) for name, ref in refs.items()}
    return {name: found["seed"] for name, found in settings.items() if isinstance(found.get("seed"), int)}


def base_of(adapter: Ref) -> Base:
    """Which base an adapter was trained on.

    Raises:
        DataError: its training does not say.
    """
    try:
        told: dict[str, Any] = json.loads((adapter.path / "training.json").read_text())
        return Base(name=told["base"], sha256=told["base_sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError("training.json does not name its base", str(adapter.path), "Run the training again.") from error


def read(folder: Path, aliases: Iterable[str] = ()) -> Version:
    """The version that stands in a folder, its signature not checked here.

    Raises:
        IntegrityError: ``version.json`` is missing or unreadable.
    """
    file = folder / FACTS
    try:
        facts = Facts.model_validate_json(file.read_text())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{file} is missing or unreadable", "registry", "Restore it from a backup.") from error
    return Version(**facts.model_dump(), folder=folder, aliases=tuple(sorted(aliases)))
