"""How much memory the machine had left while the trainer lived: what tells a kill for memory from any other."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

#: A machine with less of its memory left than this, when its trainer was killed, killed it for memory.
_SHORT = 0.05


@dataclass(frozen=True)
class Memory:
    """Host memory as last seen, in bytes; ``oom_kills`` counts the kernel's kills since the child's start."""

    available: int
    total: int
    rss: int
    oom_kills: int = 0

    def __str__(self) -> str:
        left = (
            f"{self.available / 1e9:.1f} of {self.total / 1e9:.1f} GB were left, the trainer held {self.rss / 1e9:.1f}"
        )
        return f"{left}; the kernel had killed for memory" if self.oom_kills else left

    @property
    def short(self) -> bool:
        return self.oom_kills > 0 or self.available < _SHORT * self.total


class MemoryWatch:
    """The machine's memory as last seen while the child lived, at most once a second."""

    def __init__(self) -> None:
        self.seen: Memory | None = None
        self._kills_before = _oom_kills()
        self._looked = 0.0

    def look(self, pid: int, now: bool = False) -> None:
        """Take a look, unless the last one is less than a second old; ``now`` takes it in any case."""
        if not now and time.monotonic() - self._looked < 1.0:
            return
        self._looked = time.monotonic()
        try:
            rss = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            rss = 0
        free = psutil.virtual_memory()
        kills = _oom_kills() - self._kills_before
        if rss or self.seen is None:
            self.seen = Memory(free.available, free.total, rss, kills)
        else:  # gone, or a zombie: its memory is free again, and what the kernel counted still says why
            self.seen = replace(self.seen, available=min(free.available, self.seen.available), oom_kills=kills)


def _oom_kills() -> int:
    """How often the kernel has killed for memory in this machine or container, 0 where it does not say."""
    for file, key in ((Path("/sys/fs/cgroup/memory.events"), "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        try:
            counts = dict(text.split() for text in file.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if key in counts:
            return int(counts[key])
    return 0
