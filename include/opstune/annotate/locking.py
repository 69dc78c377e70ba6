"""One process at a time works on a project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from opstune.errors import ServiceDown

#: A pull and a push that an hourly run and a retrain start at the same minute take turns.
_SECONDS = 600


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of ``name`` under ``folder``.

    Raises:
        ServiceDown: another process held it for ten minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{name}.lock", timeout=_SECONDS):
            yield
    except Timeout as error:
        raise ServiceDown(f"another process works on {name}", str(folder), "Let it finish.") from error
