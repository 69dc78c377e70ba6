"""A registered version as a folder that needs nothing outside itself.

``<stage>/`` is a sealed copy of each stage's folder, so each is still a ref that ``artifacts.verify``
accepts, with the signature that the pipeline gave it: adapter, gguf (model, Modelfile, tokenizer, chat
template), evaluation and verdict with its report, before and after conversion. Of the dataset there are
``dataset.json`` (with the ids that the next incremental build must know), ``card.html`` and the manifest,
not the examples. ``version.json`` holds the lineage, ``model.sig`` signs it all.
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
from opstune.artifacts import MANIFEST, SIGNATURE, Ref
from opstune.errors import DataError, InputError, IntegrityError
from opstune.security import signing
from opstune.settings import Mode

FACTS = "version.json"
_RESTORE = "Restore the bundle from a backup."
REQUIRED = ("dataset", "adapter", "gguf")
#: What a version must hold, by the kind of the stage that made it.
_NEEDED = {
    "dataset": ("dataset.json", "card.html"),
    "adapter": ("adapter_model.safetensors", "training.json"),
    "gguf": ("model.gguf", "Modelfile", "tokenizer_config.json", "chat_template.jinja"),
    "verdict": ("verdict.json", "report.html"),
}


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


def check_refs(refs: Mapping[str, Ref], keys: Path) -> None:
    """Every stage is signed by this home's key and whole, and was made from the one that is registered with it.

    Raises:
        InputError: a needed stage or file is missing, or two stages belong to different runs.
        IntegrityError: a file changed, or a stage was not signed here; it is named.
    """
    for ref in refs.values():
        signing.check(ref, keys)
    todo = "Register the refs of one finished run together."
    if missing := [name for name in REQUIRED if name not in refs]:
        raise InputError(f"a version needs {', '.join(missing)}", "register", todo)
    for name, ref in refs.items():
        if absent := [file for file in _NEEDED.get(ref.kind, ()) if not (ref.path / file).is_file()]:
            raise InputError(f"the {name} holds no {', '.join(absent)}", str(ref.path), todo)
    data = refs["dataset"].sha256
    models = {refs["adapter"].sha256, refs["gguf"].sha256}
    evaluations = {ref.sha256 for ref in refs.values() if ref.kind == "evaluation"}
    # From each of these sets a stage of the kind must have been made.
    sources = {
        "adapter": [{data}],
        "gguf": [{refs["adapter"].sha256}],
        "evaluation": [{data}, models],
        "verdict": [{data}, evaluations],
    }
    for name, ref in refs.items():
        if not all(wanted & inputs_of(ref.path) for wanted in sources.get(ref.kind, ())):
            raise InputError(f"the {name} was not made from the files it is registered with", "register", todo)


def inputs_of(stage: Path) -> set[str]:
    """The sha256 of everything that a stage was made from."""
    manifest = json.loads((stage / MANIFEST).read_text())
    return {source["sha256"] for source in manifest["inputs"].values() if source}


def assemble(out: Path, refs: Mapping[str, Ref]) -> None:
    """Copy every stage that belongs to a version into ``out``.

    Raises:
        IntegrityError: a copy is not what was checked.
    """
    for name, ref in refs.items():
        if ref.kind == "examples":
            continue
        copy = ref.model_copy(update={"uri": (out / name).resolve().as_uri()})
        if ref.kind == "dataset":
            (out / name).mkdir(parents=True)
            for file in (*_NEEDED["dataset"], MANIFEST, SIGNATURE):
                shutil.copy2(ref.path / file, out / name / file)
            for file in _NEEDED["dataset"]:
                artifacts.verify_file(copy, file)
        else:
            shutil.copytree(ref.path, out / name)
            artifacts.verify(copy)


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
        IntegrityError: ``version.json`` is missing, unreadable or another version's.
    """
    file = folder / FACTS
    try:
        facts = Facts.model_validate_json(file.read_text())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{file} is missing or unreadable", "registry", _RESTORE) from error
    if facts.version != folder.name:
        raise IntegrityError(f"{folder} holds version {facts.version}", "registry", _RESTORE)
    return Version(**facts.model_dump(), folder=folder, aliases=tuple(sorted(aliases)))


def standing_in(models: Path) -> list[Path]:
    """The folders of versions, without drafts."""
    return sorted(path for path in models.iterdir() if path.is_dir() and not path.name.startswith("."))
