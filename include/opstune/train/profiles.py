"""Profiles: how a base model is trained, one typed YAML file each in ``config/profiles``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from opstune.artifacts import content_hash, sha256_file
from opstune.errors import ConfigError, IntegrityError
from opstune.settings import config_dir, read_model, read_yaml

_MODELS = Path(__file__).parents[2] / "models"
_PINNED = re.compile(r"[0-9a-f]{64}")
#: Files of a base that decide what a training makes of it.
_PARTS = ("*.safetensors", "config.json", "tokenizer*.json", "*.jinja", "vocab.json", "merges.txt")

Sha256 = Annotated[str, Field(pattern=_PINNED.pattern)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(_Strict):
    """The adapter: ``W + alpha / rank * B @ A`` on every targeted matrix."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target: Literal["all-linear"] | list[str] = "all-linear"


class Incremental(_Strict):
    """What differs when the parent's adapter goes on learning."""

    learning_rate_factor: float = Field(gt=0, le=1)
    epochs: float = Field(gt=0)


class Needs(_Strict):
    """What the preflight asks of the machine."""

    disk_gb: float = Field(ge=0)
    memory_gb: float = Field(ge=0)


class Profile(_Strict):
    """How one base model is trained. Every key is explained in ``config/profiles/tiny.yaml``."""

    name: str
    base: str = Field(min_length=1)
    revision: str | None = None
    base_sha256: Sha256 | None = None
    backend: Literal["trl"] = "trl"
    method: Literal["lora", "qlora"]
    lora: Lora
    epochs: float = Field(gt=0)
    learning_rate: float = Field(gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    warmup: float = Field(ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    batch_size: int = Field(ge=1)
    accumulation: int = Field(1, ge=1)
    max_length: int = Field(ge=16)
    optimiser: Literal["adamw", "adamw_8bit"]
    activation_checkpointing: bool
    incremental: Incremental
    needs: Needs

    @property
    def base_name(self) -> str:
        """The base's name as adapters record it: never a machine's path."""
        return Path(self.base).name if Path(self.base).is_absolute() else self.base

    @property
    def effective_batch(self) -> int:
        """Examples of one optimiser step."""
        return self.batch_size * self.accumulation


def profile_names() -> list[str]:
    return sorted(path.stem for path in (config_dir() / "profiles").glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """The profile of this name, from ``config/profiles/<name>.yaml``.

    Raises:
        ConfigError: there is none, or it lists every unknown key and wrong value at once.
    """
    file = config_dir() / "profiles" / f"{name}.yaml"
    if name not in profile_names():
        raise ConfigError(f"there is no profile {name!r}", str(file.parent), f"Known: {', '.join(profile_names())}.")
    profile = read_model(file, Profile)
    if profile.name != name:
        raise ConfigError(f"{file.name} calls itself {profile.name!r}", str(file), f"Write `name: {name}`.")
    return profile


def base_folder(profile: Profile) -> Path:
    """Where the base model's files stand: the repository's ``models/``, an absolute path, or the hub's local cache.

    Raises:
        ConfigError: the base is not on this machine. Nothing is downloaded here.
    """
    if Path(profile.base).is_absolute():
        places = [Path(profile.base)]
    else:
        places = [_MODELS / profile.base, _MODELS / profile.base.rpartition("/")[2]]
    for place in places:
        if (place / "config.json").is_file():
            return place
    if "/" in profile.base and not Path(profile.base).is_absolute():
        cached = _in_hub_cache(profile.base, profile.revision)
        if cached:
            return cached
        revision = f" --revision {profile.revision}" if profile.revision else ""
        todo = f"Fetch it once: hf download {profile.base}{revision}."
    else:
        todo = "Restore the folder, or correct `base` in the profile."
    what = f"the base model {profile.base} of profile {profile.name} is not on this machine"
    raise ConfigError(what, str(places[0]), todo)


def _in_hub_cache(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def base_sha256(profile: Profile) -> str:
    """One sha256 over the base's weights, configuration and tokenizer.

    Raises:
        ConfigError: the base is missing or holds no weights.
        IntegrityError: it is not the base that the profile pins, or not what its own manifest says.
    """
    folder = base_folder(profile)
    files = sorted({path for pattern in _PARTS for path in folder.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        todo = "Fetch it again, whole."
        raise ConfigError(f"the base model {profile.base} holds no .safetensors weights", str(folder), todo)
    hashes = {path.name: _hash(path, path.stat().st_mtime_ns, path.stat().st_size) for path in files}
    _hold_against_manifest(folder, hashes)
    found = content_hash({name: {"sha256": value} for name, value in hashes.items()})
    if profile.base_sha256 and found != profile.base_sha256:
        what = f"the base model {profile.base} is not the one that profile {profile.name} pins: sha256 {found[:12]}"
        todo = "Restore its files, or pin the new base on purpose; adapters of the old one do not fit it."
        raise IntegrityError(what, str(folder), todo)
    return found


@cache
def _hash(path: Path, _mtime: int, _size: int) -> str:
    return sha256_file(path)


def _hold_against_manifest(folder: Path, hashes: dict[str, str]) -> None:
    """Where a base carries a manifest of its files, each must be as it says."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return
    listed: dict[str, Any] = read_yaml(manifest).get("files", {})
    for name, entry in listed.items():
        expected = entry["sha256"] if isinstance(entry, dict) else entry
        if name in hashes and hashes[name] != expected:
            todo = "Restore the file (git checkout, or fetch the base again)."
            raise IntegrityError(f"{folder / name} changed after the base was sealed", "base model", todo)
