"""Which devices a training may use: a pool only counts, it does not say which GPU is free.

A lease is a kernel lock on a file, so the lease of a dead holder is free at once. What such a holder
left running on the device (a trainer whose task was killed) is ended before the device is used again.
A holder takes all the devices that it asks for or none, so two that wait never hold what the other needs.
A device whose driver failed is left alone for an hour, where there are others.
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
from typing import TYPE_CHECKING, Any

import psutil

from opstune.errors import ConfigError, DriverFault, ServiceDown

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger(__name__)

MARK = "OPSTUNE_LEASE"
#: Devices that may be leased on this machine; ``cpu:0,cpu:1`` are two that exist in name only.
NAMED = "OPSTUNE_DEVICES"
#: Between the lock files of a process's leases: no colon, which stands in names like ``cpu:0``.
_BETWEEN = "\n"
CPU = "cpu"
FAULT_SECONDS = 3600.0


def devices(environment: Mapping[str, str] = os.environ, nodes: Path = Path("/dev")) -> list[str]:
    """The devices of this machine that may be leased; one virtual device where there is no GPU.

    Counts device nodes: asking torch would open a CUDA context in the task that is to stay free of it.
    """
    for variable in (NAMED, "CUDA_VISIBLE_DEVICES"):
        if (named := environment.get(variable)) is not None:
            return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")] or [CPU]
    found = sorted(int(node.name.removeprefix("nvidia")) for node in nodes.glob("nvidia[0-9]*"))
    return [str(number) for number in found] or [CPU]


@contextlib.contextmanager
def device(
    folder: Path,
    holder: str,
    choices: Sequence[str] | None = None,
    wait_seconds: float = 3600.0,
    poll_seconds: float = 2.0,
    count: int = 1,
) -> Iterator[dict[str, str]]:
    """Hold ``count`` devices for the block; gives the environment that a process on them must run with.

    A ``DriverFault`` that leaves the block is remembered, and the next holders take other devices.

    Args:
        folder: where the lock files of all holders on this machine stand.
        holder: who asks, for the people who wait.

    Raises:
        ConfigError: the machine has fewer devices than that.
        ServiceDown: too many of them were held for ``wait_seconds``.
    """
    choices = devices() if choices is None else choices
    if count > len(choices):
        what = f"{holder} asks for {count} devices, and {socket.gethostname()} has {len(choices)}: {', '.join(choices)}"
        raise ConfigError(what, "train.devices", "Lower train.devices, or send the task to a larger machine.")
    folder.mkdir(parents=True, exist_ok=True)
    locks = _acquire(folder, choices, count, wait_seconds, poll_seconds)
    try:
        files = [lock.lock_file for lock in locks.values()]
        _end_orphans(set(files))
        for name in locks:
            _sign(folder, name, holder)
        log.info("holding %s %s", "device" if count == 1 else "devices", ", ".join(locks))
        yield {
            "CUDA_VISIBLE_DEVICES": ",".join(name for name in locks if not _virtual(name)),
            MARK: _BETWEEN.join(files),
        }
    except DriverFault as error:
        for name in locks:
            _write(_fault(folder, name), {"holder": holder, "what": error.what, "at": time.time()})
        raise
    finally:
        for name, lock in locks.items():
            _record(folder, name).unlink(missing_ok=True)
            lock.release()


def holder(folder: Path, name: str) -> str:
    """Who holds a device, in words."""
    found = _read(_record(folder, name))
    if found is None:
        return "another process"
    return f"{found['holder']} (pid {found['pid']}, for {time.time() - found['since']:.0f} s)"


def sound(folder: Path, choices: Sequence[str], count: int) -> list[str]:
    """The devices to choose from: without those whose driver failed in the last hour, if enough are left."""
    since = time.time() - FAULT_SECONDS
    found = {name: fault for name in choices if (fault := _read(_fault(folder, name))) and fault["at"] > since}
    for name, fault in found.items():
        again = time.strftime("%H:%M", time.localtime(fault["at"] + FAULT_SECONDS))
        left_alone = "device %s failed under %s: %s. It is left alone until %s."
        log.warning(left_alone, name, fault["holder"], fault["what"], again)
    left = [name for name in choices if name not in found]
    if found and len(left) < count:
        log.warning("the others are too few, so it is tried again all the same")
        return list(choices)
    return left


def _acquire(
    folder: Path, choices: Sequence[str], count: int, wait_seconds: float, poll_seconds: float
) -> dict[str, FileLock]:
    end, told = time.monotonic() + wait_seconds, False
    choices = sound(folder, choices, count)
    while len(locks := _try(folder, choices, count)) < count:
        held = "; ".join(f"{name} by {holder(folder, name)}" for name in choices if name not in locks)
        if time.monotonic() > end:
            what = f"no {count} free of {len(choices)} devices in {wait_seconds:.0f} s: {held}"
            raise ServiceDown(what, socket.gethostname(), "Wait for them to end.")
        if not told:
            log.info("waiting for %d of %d devices: %s", count, len(choices), held)
            told = True
        time.sleep(poll_seconds)
    return locks


def _try(folder: Path, choices: Sequence[str], count: int) -> dict[str, FileLock]:
    """``count`` locks; or fewer, which are then released again: whoever waits holds nothing."""
    from filelock import FileLock, Timeout

    locks: dict[str, FileLock] = {}
    # One at a time: of two that each try for all, one gets them.
    with FileLock(str(folder / f"{socket.gethostname()}.trying.lock"), thread_local=False):
        for name in choices:
            lock = FileLock(str(folder / f"{_stem(name)}.lock"), thread_local=False)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                locks[name] = lock
            if len(locks) == count:
                return locks
        for lock in locks.values():
            lock.release()
    return locks


def _sign(folder: Path, name: str, holder: str) -> None:
    """Write down who has a device now. A record that stands there is of a holder that died: others take theirs away."""
    if dead := _read(_record(folder, name)):
        log.warning("device %s is taken over from %s (pid %d), which died", name, dead["holder"], dead["pid"])
    _write(_record(folder, name), {"holder": holder, "pid": os.getpid(), "since": time.time()})


def _end_orphans(lock_files: set[str]) -> None:
    """End processes that were started under one of these leases by a holder that is gone."""
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            marks = set(process.environ().get(MARK, "").split(_BETWEEN))
            if process.pid != os.getpid() and marks & lock_files:
                orphans.append(process)
                process.terminate()
    for process in orphans:
        log.warning("ended process %d, which a dead holder left on this device", process.pid)
    for process in psutil.wait_procs(orphans, timeout=5)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _virtual(name: str) -> bool:
    return name.partition(":")[0] == CPU


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found


def _write(file: Path, told: Mapping[str, Any]) -> None:
    from opstune.artifacts import write_text

    write_text(file, json.dumps(told))


def _record(folder: Path, name: str) -> Path:
    return folder / f"{_stem(name)}.json"


def _fault(folder: Path, name: str) -> Path:
    return folder / f"{_stem(name)}.fault.json"


def _stem(name: str) -> str:
    return f"{socket.gethostname()}-{name.replace('/', '_')}"
