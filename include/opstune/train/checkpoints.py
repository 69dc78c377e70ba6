"""Checkpoints that are complete or absent: made beside their place, sealed with hashes, then renamed."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

from opstune.artifacts import sha256_file, write_text

log = logging.getLogger(__name__)

SEAL = "complete.json"
_PREFIX = "checkpoint-"


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return folder / f"{_PREFIX}{step}"


def seal(made: Path, folder: Path, step: int) -> Path:
    """Put a written checkpoint at its place, with the sha256 of every file, and return the place.

    The files reach the disk before the rename, so that a machine that loses power holds all or nothing.
    """
    hashes = {}
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        hashes[str(path.relative_to(made))] = sha256_file(path)
    write_text(made / SEAL, json.dumps({"step": step, "files": hashes}, indent=1))
    target = place(folder, step)
    shutil.rmtree(target, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return made.replace(target)


def complete(checkpoint: Path) -> bool:
    """Whether a checkpoint holds every file it was sealed with, byte for byte."""
    try:
        files = json.loads((checkpoint / SEAL).read_text())["files"]
        return bool(files) and all(sha256_file(checkpoint / name) == value for name, value in files.items())
    except (OSError, ValueError, KeyError):
        return False


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, whole or not, oldest first."""
    names = (path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*"))
    return sorted(int(name) for name in names if name.isdigit())


def last_complete(folder: Path) -> tuple[int, Path] | None:
    """(step, place) of the newest checkpoint that is complete; damaged ones are passed over and named in the log."""
    for step in reversed(steps(folder)):
        if complete(place(folder, step)):
            return step, place(folder, step)
        log.warning("checkpoint of step %d is damaged and was passed over", step)
    return None


def keep_last(folder: Path, count: int, best: int | None = None) -> None:
    """Remove all but the newest ``count`` checkpoints and the best one."""
    for step in steps(folder)[:-count]:
        if step != best:
            shutil.rmtree(place(folder, step), ignore_errors=True)


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints newer than a step: damaged ones, or what was saved on a way that is given up."""
    for newer in steps(folder):
        if newer > step:
            shutil.rmtree(place(folder, newer), ignore_errors=True)
