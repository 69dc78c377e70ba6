"""The child process: one spec to its backend, alone in its folder, its failures told as events."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import sys
import threading
import time
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from opstune.errors import Diverged, TrainerFailed
from opstune.train import backends, failures, launch, progress
from opstune.train.launch import Rank
from opstune.train.progress import Tell
from opstune.train.spec import Spec

_WAIT_FOR_LOCK = 30.0


def main(spec_file: Path) -> int:
    """Run a spec as its own process: events go to what was standard output, all else to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it asks for a package that no training here needs
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _end_with_parent(events)
    rank = launch.rank()
    tell = _teller(events, rank)
    launch.one_device()
    try:
        spec = Spec.model_validate_json(spec_file.read_text())
        with _Alone(spec.work) if rank.speaks else nullcontext():
            backends.get(spec.backend)(spec, tell)
    except Exception as error:
        told = failures.from_exception(error)
        if told:
            sound = told.sound if isinstance(told, Diverged) else None
            tell("failed", kind=type(told).__name__, what=told.what, where=told.where, todo=told.todo, sound=sound)
        with suppress(OSError):  # the log may stand on the disk that is full
            traceback.print_exc()
        return failures.TOLD if told else 1
    return 0


def _teller(events: IO[str], rank: Rank) -> Tell:
    """One process of several tells how it goes; any tells that it failed."""

    def tell(event: str, **facts: Any) -> None:
        if rank.speaks or event == "failed":
            events.write(progress.line(event, facts))

    return tell


def _end_with_parent(events: IO[str]) -> None:
    """End when the parent is gone, however it went: an orphan would keep the GPU.

    A pipe whose reader is gone says so to ``poll``, even where the parent died before this process looked.
    """
    parent, pipe = os.getppid(), select.poll()
    pipe.register(events, 0)

    def watch(_open: IO[str]) -> None:
        while os.getppid() == parent and not pipe.poll(1000):
            pass
        os._exit(143)

    # The thread keeps the file open: closed with the last event, it would look as if the parent were gone.
    threading.Thread(target=watch, args=(events,), daemon=True, name="parent-watch").start()


class _Alone:
    """Holds the work folder: a trainer left by a dead parent needs a second to notice and end."""

    def __init__(self, work: Path) -> None:
        self._file = (work / "lock").open("w")

    def __enter__(self) -> None:
        deadline = time.monotonic() + _WAIT_FOR_LOCK
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    todo = "Wait for it or end it, then clear the task."
                    raise TrainerFailed("another trainer works in the same folder", "lock", todo) from error
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self._file.close()
