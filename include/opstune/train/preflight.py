"""What can be known before a training starts: looked at in seconds, so that nothing fails in hours for it."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import ConfigError, DataError, DiskFull, OpstuneError, OutsideError
from opstune.train import gpus, needs
from opstune.train.bases import base_folder, base_revision, base_sha256
from opstune.train.needs import Sizes
from opstune.train.profiles import Profile

log = logging.getLogger(__name__)

TRAINING_FILE = "train.parquet"
ADAPTER_FILE = "adapter_model.safetensors"


def preflight(
    folder: Path,
    dataset: Ref,
    profile: Profile,
    keep_checkpoints: int,
    parent: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    here: bool = True,
) -> list[str]:
    """Look at everything that a training needs, and tell all that is missing at once; returns what was found.

    Args:
        folder: where the result will stand; its work and the merge stand on the same disk.
        environment: what the trainer runs with: ``CUDA_VISIBLE_DEVICES`` names its GPUs.
        here: the trainer runs on this machine. The memory and the GPUs of another one are not looked at.

    Raises:
        IntegrityError: a file of the dataset, the base or a sealed parent changed.
        ConfigError: the base or the parent's weights are not on this machine, or it is too small.
        DataError: the ref is no dataset, or it holds nothing to train on.
        DriverFault: a GPU, or the driver, does not answer.
        DiskFull: too little room for checkpoints, merge and GGUF. OutsideError: too little memory is free now.
    """
    started = time.monotonic()
    told: list[str] = []
    faults: list[OpstuneError] = []

    def look(what: str, at: Callable[[], str]) -> None:
        try:
            told.append(f"{what}: {at()}")
            log.info("preflight: %s, ok", told[-1])
        except OpstuneError as fault:
            log.error("preflight: %s: %s", what, fault.what)
            faults.append(fault)

    look("dataset", lambda: _dataset(dataset))
    look("base", lambda: _base(profile))
    if parent is not None:
        look("parent", lambda: _parent(parent))
    found = _sizes(profile)
    look("disk", lambda: _disk(folder, found, profile, keep_checkpoints))
    if here:
        names = devices(environment)
        look("memory", lambda: _memory(found, profile, cpu=not names))
        look("GPU", lambda: _gpus(names, found, profile))
    else:
        told.append("memory, GPU: not looked at, the trainer runs elsewhere")
        log.info("preflight: %s", told[-1])
    if faults:
        raise _one(faults)
    log.info("preflight: ok after %.1f s", time.monotonic() - started)
    return told


def devices(environment: Mapping[str, str] = os.environ, nodes: Path = Path("/dev")) -> list[str]:
    """The GPUs that a process with this environment sees, as its driver names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return sorted(node.name.removeprefix("nvidia") for node in nodes.glob("nvidia[0-9]*"))
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def _dataset(dataset: Ref) -> str:
    artifacts.verify(dataset)
    if dataset.kind != "dataset" or not (dataset.path / TRAINING_FILE).is_file():
        what = f"a training needs a dataset with {TRAINING_FILE}, this is a {dataset.kind}"
        raise DataError(what, str(dataset.path), "Give it the ref of the dataset stage.")
    count = dataset.counts.get("train")
    if count == 0:
        raise DataError("the dataset holds no training examples", str(dataset.path), "Collect more, or retrain later.")
    examples = "" if count is None else f"{count:,.0f} examples, "
    return f"{examples}every file is what its manifest says, sha256 {dataset.sha256[:12]}"


def _base(profile: Profile) -> str:
    if profile.hosted:
        return f"{profile.base}, at a provider"
    try:
        revision = base_revision(profile)
    except ConfigError as error:
        if others := _revisions(profile):
            what = f"{error.what} in revision {profile.revision}; here are {', '.join(others)}"
            raise ConfigError(what, error.where, error.todo) from error
        raise
    sha256 = base_sha256(profile)
    pinned = "pinned" if profile.base_sha256 else "not pinned by the profile"
    if revision:
        asked = "as asked" if profile.revision else "whatever was fetched last: pin it in the profile"
        return f"{profile.base} in revision {revision} ({asked}), sha256 {sha256[:12]} ({pinned})"
    return f"{profile.base_name}, sha256 {sha256[:12]} ({pinned})"


def _revisions(profile: Profile) -> list[str]:
    """The commits of a hub repository that are in the local cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE) / f"models--{profile.base.replace('/', '--')}" / "snapshots"
    return sorted(path.name for path in place.glob("*")) if profile.revision else []


def _parent(parent: Path) -> str:
    ref = parent_ref(parent)
    return f"{parent.name}, every file is what its manifest says" if ref else f"{parent.name}, which has no manifest"


def _sizes(profile: Profile) -> Sizes:
    """Nothing at all for a base that is missing or damaged: that is told already."""
    try:
        return needs.sizes(base_folder(profile), profile)
    except (OpstuneError, OSError, ValueError, KeyError):
        return Sizes(0, 0)


def _disk(folder: Path, found: Sizes, profile: Profile, keep_checkpoints: int) -> str:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    work = folder.with_name(f"{folder.name}.work")
    there = sum(path.stat().st_size for path in _files(work))  # an earlier attempt's, which this one goes on with
    free, needed = shutil.disk_usage(place).free + there, needs.disk_bytes(found, profile, keep_checkpoints)
    if free < needed:
        what = f"the disk has {free / 1e9:.1f} GB left, and checkpoints, merge and GGUF need {needed / 1e9:.1f} GB"
        raise DiskFull(what, str(place), "Free some space, or lower train.keep_checkpoints, and clear the task.")
    return f"{free / 1e9:.1f} GB free, checkpoints, merge and GGUF need {needed / 1e9:.1f} GB"


def _memory(found: Sizes, profile: Profile, cpu: bool) -> str:
    (available, total), needed = needs.host_memory(), needs.host_bytes(found, profile, cpu)
    asked = f"profile {profile.name} needs {needed / 1e9:.1f} GB"
    if total < needed:
        what = f"this machine has {total / 1e9:.1f} GB of memory, {asked}"
        raise ConfigError(what, "preflight", "Train on a larger machine, or choose a smaller base.")
    if available < needed:
        what = f"{available / 1e9:.1f} GB of this machine's {total / 1e9:.1f} GB of memory are free, {asked}"
        raise OutsideError(what, "preflight", "See what else runs there; the task can be cleared once that has ended.")
    return f"{available / 1e9:.1f} GB of {total / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed"


def _gpus(names: list[str], found: Sizes, profile: Profile) -> str:
    if not names:
        return "none, this training runs on the CPU, so there is nothing to look at"
    shown = gpus.listed()
    if shown is None:
        return f"{', '.join(names)}, not looked at: there is no nvidia-smi here"
    needed = needs.gpu_bytes(found, profile)
    told: list[str] = []
    faults: list[OpstuneError] = []
    for gpu in gpus.chosen(shown, names):
        if fault := _too_small(gpu, needed, profile):
            faults.append(fault)
        told.append(str(gpu))
    if faults:
        raise _one(faults)
    return "; ".join(told) or f"{', '.join(names)}, parts of a GPU, which nvidia-smi does not list"


def _too_small(gpu: gpus.Gpu, needed: float, profile: Profile) -> OpstuneError | None:
    at_least = f"at least {needed / 1e9:.1f} GB are needed"
    if gpu.total is not None and gpu.total < needed:
        todo = "Choose method qlora, a smaller base, or a larger GPU."
        return ConfigError(f"{gpu}, and {at_least}", f"profile {profile.name}", todo)
    if gpu.free is not None and gpu.free < needed:
        todo = "Something else holds its memory: nvidia-smi names it. End it, or give the task another GPU."
        return OutsideError(f"{gpu}, and {at_least}", "preflight", todo)
    return None


def _one(faults: list[OpstuneError]) -> OpstuneError:
    """Every fault in one error, which may be tried again only if each of them may."""
    if len(faults) == 1:
        return faults[0]
    kind = type(next((fault for fault in faults if not fault.retryable), faults[0]))
    what = "; ".join(f"{number}. {fault.what} ({fault.where})" for number, fault in enumerate(faults, 1))
    todo = " ".join(f"{number}. {fault.todo}" for number, fault in enumerate(faults, 1))
    return kind(f"{len(faults)} things are in the way of this training: {what}", "preflight", todo)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


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
