"""The most memory that this process has held while something ran."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

_LOOK_SECONDS = 0.05


class Peak:
    """Looks every 50 ms: the kernel's own high-water mark would also count what ran in this process before."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def mb(self) -> float:
        """Resident megabytes (2**20 bytes), the most so far."""
        self._look()
        return round(self._most / 2**20, 1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        self._most = max(self._most, self._process.memory_info().rss)
