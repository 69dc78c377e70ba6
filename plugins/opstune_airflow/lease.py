"""One device per training: a pool only counts, it does not say which GPU is free.

A lease is a kernel lock on a file, so the lease of a dead holder is free at once. What such a holder
left running on the device (a trainer whose task was killed) is ended before the device is used again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from opstune.errors import ServiceDown

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger(__name__)

MARK = "OPSTUNE_LEASE"
CPU = "cpu"


def devices(environment: Mapping[str, str] = os.environ, nodes: Path = Path("/dev")) -> list[str]:
    """The devices of this machine that may be leased; one virtual device where there is no GPU.

    Counts device nodes: asking torch would open a CUDA context in the task that is to stay free of it.
    """
    if (named := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name not in ("", "-1")] or [CPU]
    found = sorted(int(node.name.removeprefix("nvidia")) for node in nodes.glob("nvidia[0-9]*"))
    return [str(number) for number in found] or [CPU]


@contextlib.contextmanager
def device(
    folder: Path,
    holder: str,
    choices: Sequence[str] | None = None,
    wait_seconds: float = 3600.0,
    poll_seconds: float = 2.0,
) -> Iterator[dict[str, str]]:
    """Hold one device for the block; gives the environment that a process on it must run with.

    Args:
        folder: where the lock files of all holders on this machine stand.
        holder: who asks, for the people who wait.

    Raises:
        ServiceDown: every device was held for ``wait_seconds``.
    """
    from opstune.artifacts import write_text

    choices = devices() if choices is None else choices
    folder.mkdir(parents=True, exist_ok=True)
    name, lock = _acquire(folder, choices, wait_seconds, poll_seconds)
    record = _record(folder, name)
    try:
        _end_orphans(lock.lock_file)
        write_text(record, json.dumps({"holder": holder, "pid": os.getpid(), "since": time.time()}))
        log.info("holding device %s", name)
        yield {"CUDA_VISIBLE_DEVICES": "" if name == CPU else name, MARK: lock.lock_file}
    finally:
        record.unlink(missing_ok=True)
        lock.release()


def holder(folder: Path, name: str) -> str:
    """Who holds a device, in words."""
    try:
        found = json.loads(_record(folder, name).read_text())
    except (OSError, ValueError):
        return "another process"
    return f"{found['holder']} (pid {found['pid']}, for {time.time() - found['since']:.0f} s)"


def _acquire(folder: Path, choices: Sequence[str], wait_seconds: float, poll_seconds: float) -> tuple[str, FileLock]:
    from filelock import FileLock, Timeout

    end, told = time.monotonic() + wait_seconds, ""
    while True:
        for name in choices:
            lock = FileLock(str(folder / f"{_stem(name)}.lock"), thread_local=False)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                return name, lock
        held = "; ".join(f"{name} by {holder(folder, name)}" for name in choices)
        if time.monotonic() > end:
            raise ServiceDown(
                f"no free device in {wait_seconds:.0f} s: {held}", socket.gethostname(), "Wait for them to end."
            )
        if told != (told := ", ".join(choices)):
            log.info("waiting for a device: %s", held)
        time.sleep(poll_seconds)


def _end_orphans(lock_file: str) -> None:
    """End processes that were started under this lease by a holder that is gone."""
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == lock_file:
                orphans.append(process)
                process.terminate()
    for process in orphans:
        log.warning("ended process %d, which a dead holder left on this device", process.pid)
    for process in psutil.wait_procs(orphans, timeout=5)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _record(folder: Path, name: str) -> Path:
    return folder / f"{_stem(name)}.json"


def _stem(name: str) -> str:
    return f"{socket.gethostname()}-{name.replace('/', '_')}"
