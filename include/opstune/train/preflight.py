"""What can be known before a training starts: checked in seconds, so that nothing fails in hours for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import ConfigError, DataError, OutsideError
from opstune.train.profiles import Profile, base_sha256

TRAINING_FILE = "train.parquet"
ADAPTER_FILE = "adapter_model.safetensors"


def preflight(folder: Path, dataset: Ref, profile: Profile, parent: Path | None = None) -> None:
    """Check the dataset's files, the base, the parent's adapter, the disk and the memory.

    Raises:
        IntegrityError: a file of the dataset, the base or a sealed parent changed.
        ConfigError: the base or the parent's adapter is not on this machine, or it has too little memory.
        DataError: the ref is no dataset, or it holds nothing to train on.
        OutsideError: the disk has too little room for checkpoints.
    """
    artifacts.verify(dataset)
    if dataset.kind != "dataset" or not (dataset.path / TRAINING_FILE).is_file():
        what = f"a training needs a dataset with {TRAINING_FILE}, this is a {dataset.kind}"
        raise DataError(what, str(dataset.path), "Give it the ref of the dataset stage.")
    if dataset.counts.get("train") == 0:
        raise DataError("the dataset holds no training examples", str(dataset.path), "Collect more, or retrain later.")
    base_sha256(profile)
    if parent is not None:
        parent_ref(parent)
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < profile.needs.disk_gb:
        what = f"the disk has {free:.1f} GB left, profile {profile.name} needs {profile.needs.disk_gb:g} GB"
        raise OutsideError(what, str(place), "Free some space, then clear the task.")
    total = psutil.virtual_memory().total / 1e9
    if total < profile.needs.memory_gb:
        what = f"this machine has {total:.0f} GB of memory, profile {profile.name} needs {profile.needs.memory_gb:g} GB"
        raise ConfigError(what, "preflight", "Train on a larger machine, or choose a smaller base.")


def parent_ref(parent: Path) -> Ref | None:
    """The verified ref of the parent's adapter, or none where it carries no manifest of its own.

    Raises:
        ConfigError: there is no adapter. IntegrityError: a file of it changed.
    """
    if not any(parent.glob("*.safetensors")):
        todo = "Give the folder of the champion's adapter, or run a full retrain."
        raise ConfigError(f"the parent holds no {ADAPTER_FILE}, and no whole weights", str(parent), todo)
    found = artifacts.find(parent)
    return artifacts.verify(found) if found else None


def parent_sha256(parent: Path) -> str:
    """The sha256 of the parent's adapter, or one over the files of its whole weights."""
    if (parent / ADAPTER_FILE).is_file():
        return artifacts.sha256_file(parent / ADAPTER_FILE)
    weights = sorted(parent.glob("*.safetensors"))
    return artifacts.content_hash({file.name: {"sha256": artifacts.sha256_file(file)} for file in weights})
