"""The child's work: one spec from examples to a finished adapter, its failures told as events."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from opstune.errors import TrainerFailed
from opstune.train import failures, progress
from opstune.train.progress import Tell
from opstune.train.spec import Spec

if TYPE_CHECKING:
    from transformers import TrainerCallback

log = logging.getLogger(__name__)

_WAIT_FOR_LOCK = 30.0
#: Keys of a spec that say where things stand on this machine, or how often something is told.
_NOT_FACTS = {"base", "examples", "work", "parent", "progress_seconds"}


def main(spec_file: Path) -> int:
    """Run a spec as its own process: events go to what was standard output, all else to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _end_with_parent(events.fileno())
    tell = _teller(events)
    try:
        spec = Spec.model_validate_json(spec_file.read_text())
        with _Alone(spec.work):
            run(spec, tell)
    except Exception as error:
        traceback.print_exc()
        if told := failures.from_exception(error):
            tell("failed", kind=type(told).__name__, what=told.what, where=told.where, todo=told.todo)
            return failures.TOLD
        return 1
    return 0


def run(spec: Spec, tell: Tell, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Train what a spec says and put the result at ``spec.finished``, whole.

    ``callbacks`` are further transformers callbacks, the seam through which tests break things.

    Raises:
        OpstuneError: what the child can tell itself; anything else is a bug.
    """
    import torch

    from opstune.tables import read_examples
    from opstune.train import backend, machine, model
    from opstune.train.examples import tokenise

    started = time.monotonic()
    means = machine.means(spec)
    torch.set_num_threads(means.threads)
    if means.turned_off:
        tell("note", text=f"On this CPU these are off: {'; '.join(means.turned_off)}.")
    adapted, tokenizer = model.load(spec, means)
    found = tokenise(read_examples(spec.examples), tokenizer, spec.max_length)
    trainer = backend.Backend(adapted, tokenizer, found.rows, spec, means)
    log.info("%d examples, %d tokens, ready after %.1f s", len(found.rows), found.tokens, time.monotonic() - started)
    resumed_from = backend.train(trainer, tell, callbacks)
    points = backend.curve(trainer)
    last = points[-min(10, len(points)) :]
    facts: dict[str, Any] = {
        "base": spec.base_name,
        "base_sha256": spec.base_sha256,
        "profile": spec.profile,
        "method": spec.method,
        "precision": "bfloat16" if means.bf16 else "float32",
        "settings": spec.model_dump(mode="json", exclude=_NOT_FACTS),
        "parent": spec.parent_sha256,
        "examples": len(found.rows),
        "too_long": found.too_long,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "tokens": trainer.tokens,
        "loss": sum(point["loss"] for point in last) / len(last),
        "seconds": round(time.monotonic() - started, 1),
        "resumed_from": resumed_from,
        "curve": points,
    }
    made = spec.finished.with_name(".finished.partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    backend.save(trainer, made, facts)
    made.replace(spec.finished)
    tell("finished", step=trainer.state.global_step)


def _teller(events: IO[str]) -> Tell:
    def tell(event: str, **facts: Any) -> None:
        events.write(progress.line(event, facts))

    return tell


def _end_with_parent(events: int) -> None:
    """End when the parent is gone, however it went: an orphan would keep the GPU.

    A pipe whose reader is gone says so to ``poll``, even where the parent died before this process looked.
    """
    parent, pipe = os.getppid(), select.poll()
    pipe.register(events, 0)

    def watch() -> None:
        while os.getppid() == parent and not pipe.poll(1000):
            pass
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


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
