"""How a training is followed from a terminal: a bar where there is one, else a line every few seconds in the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from opstune import train

log = logging.getLogger("opstune.train")


@contextmanager
def followed() -> Iterator[Callable[[train.Progress], None]]:
    """What takes each point of a training. Everything goes to standard error, so that ``--json`` stays whole.

    The bar shows what a line says: steps, loss, tokens a second, memory, time left.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda told: log.info("%s", told)
        return
    text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
    with Progress(BarColumn(), MofNCompleteColumn(), text, console=console) as bar:
        task = bar.add_task("the trainer starts", total=None)

        def tell(told: train.Progress) -> None:
            bar.update(task, completed=told.step, total=told.of, description=told.words)

        with _log_above(bar):
            yield tell


@contextmanager
def _log_above(bar: Progress) -> Iterator[None]:
    """Let log lines appear above the bar: rich stands in for ``sys.stderr``, of which handlers hold the old one."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
