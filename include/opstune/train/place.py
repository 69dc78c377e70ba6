"""Where a trainer runs: here, as a child of this process, or somewhere else by the same command."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import psutil

from opstune.errors import OpstuneError
from opstune.train.memory import Memory, MemoryWatch

log = logging.getLogger(__name__)

#: What Airflow leaves a task between SIGTERM and SIGKILL is 5 s: the child gets most of it.
_GRACE = 3.0
_SILENT = 60.0
_SOURCES = Path(__file__).parents[2]

Hear = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """How a trainer ended.

    ``code`` is as ``subprocess`` has it: a negative one is the signal that ended it. ``memory`` is as last seen
    of the trainer's machine, and ``cause`` what the place itself knows of the end, where that says more.
    """

    code: int
    memory: Memory | None = None
    cause: OpstuneError | None = None


class Place(Protocol):
    """Starts a trainer's command, hands on every line of its standard output, and knows how it ended.

    ``run`` appends what else the trainer says to the file ``output``. ``stop`` ends the trainer and all that it
    started; it may be called from a signal handler or another thread, at any time and more than once.
    """

    def run(self, command: Sequence[str], environment: Mapping[str, str], output: Path, hear: Hear) -> Ended: ...

    def stop(self) -> None: ...


class Here:
    """A child process of this one.

    It stays in this process group: a session of its own would outlive a killed Airflow task and keep the GPU.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, command: Sequence[str], environment: Mapping[str, str], output: Path, hear: Hear) -> Ended:
        watch = MemoryWatch()
        paths = os.pathsep.join(path for path in (str(_SOURCES), os.environ.get("PYTHONPATH", "")) if path)
        with output.open("a") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, "PYTHONPATH": paths, **environment},
            )
            try:
                if self._stopped:
                    self._end()
                _listen(self._process, hear, watch)
                code = self._process.wait()
                watch.look(self._process.pid, now=True)  # the kernel's kill may have come since the last one
            finally:
                self._end()
        return Ended(code, watch.seen)

    def stop(self) -> None:
        self._stopped = True
        self._end()

    def _end(self) -> None:
        """End the child and whatever it started: SIGTERM, then SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            family = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self._process.terminate()
        for process in family:
            _signal(process.terminate)
        # Only Popen may wait for the child: psutil would take the exit code away from it.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE)
        _, alive = psutil.wait_procs(family, timeout=0)
        self._process.kill()
        for process in alive:
            _signal(process.kill)
        psutil.wait_procs(alive, timeout=_GRACE)


def _listen(process: subprocess.Popen[str], hear: Hear, watch: MemoryWatch) -> None:
    """Hand on the child's lines until its pipe closes."""
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_drain, args=(process.stdout, lines), daemon=True, name="trainer-output").start()
    last_word = time.monotonic()
    while True:
        watch.look(process.pid)
        try:
            text = lines.get(timeout=1.0)
        except queue.Empty:
            if time.monotonic() - last_word > _SILENT:
                last_word = time.monotonic()
                log.info("The trainer works, and has said nothing for %d s.", _SILENT)
            continue
        if text is None:
            return
        last_word = time.monotonic()
        hear(text)


def _drain(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for text in stream:
        lines.put(text)
    stream.close()
    lines.put(None)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
