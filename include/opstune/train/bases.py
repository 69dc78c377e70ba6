"""The base model of a profile: where its files stand, which commit of its repository they are, and their sha256."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from opstune.artifacts import content_hash, fingerprint, model_files, sha256_file
from opstune.errors import ConfigError, IntegrityError
from opstune.settings import read_yaml
from opstune.train.profiles import Profile

_MODELS = Path(__file__).parents[2] / "models"


def base_folder(profile: Profile) -> Path:
    """Where the base model's files stand: the repository's ``models/``, an absolute path, or the hub's local cache.

    Raises:
        ConfigError: the base is not on this machine. Nothing is downloaded here.
    """
    if profile.hosted:
        todo = "Choose a profile that trains here."
        raise ConfigError(f"the base model {profile.base} stands at a provider, not here", profile.name, todo)
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


def base_revision(profile: Profile) -> str | None:
    """The commit of the base's repository that is here, pinned or not; none where the base is a folder of its own.

    Raises:
        ConfigError: the base is not on this machine.
    """
    folder = None if profile.hosted else base_folder(profile)
    return folder.name if folder is not None and folder.parent.name == "snapshots" else None


def _in_hub_cache(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def base_sha256(profile: Profile) -> str:
    """One sha256 over the base's weights, configuration and tokenizer; over its name alone where it stands elsewhere.

    Raises:
        ConfigError: the base is missing or holds no weights.
        IntegrityError: it is not the base that the profile pins, or not what its own manifest says.
    """
    if profile.hosted:
        return fingerprint({"hosted": profile.base})
    folder = base_folder(profile)
    files = model_files(folder)
    if not any(path.suffix == ".safetensors" for path in files):
        todo = (
            "Fetch it again, whole. Where its repository has only pytorch_model.bin, load it once with transformers "
            "and save_pretrained it, tokenizer too, to a folder that `base` then names."
        )
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
