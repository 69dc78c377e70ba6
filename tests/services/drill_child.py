"""The trainer, broken from inside: ``python drill_child.py HOW SPEC.json``.

The real child with one callback of transformers more. It breaks at the first step after ``STEP`` of a training's
first attempt, or of every one where HOW ends with ``again``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from opstune.train import checkpoints, child
from opstune.train.backends import trl
from opstune.train.progress import Tell
from opstune.train.spec import Spec

STEP = 22
#: The checkpoint before, and the one that a full disk has no room for.
SAVED, UNSAVED = 20, 25


def killed(_spec: Spec, _model: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_written(spec: Spec, _model: Any) -> None:
    moments = checkpoints.place(spec.checkpoints, SAVED) / "optimizer.pt"
    moments.write_bytes(moments.read_bytes()[:1000])
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(_spec: Spec, _model: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def driver_fault(_spec: Spec, _model: Any) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def no_number(_spec: Spec, model: Any) -> None:
    next(parameter for parameter in model.parameters() if parameter.requires_grad).data.fill_(float("nan"))


def bug(_spec: Spec, _model: Any) -> None:
    raise KeyError("no such key")


def disk_full(_spec: Spec, _model: Any) -> None:
    seal = checkpoints.seal

    def full(made: Path, folder: Path, step: int) -> Path:
        if step == UNSAVED:
            raise OSError(errno.ENOSPC, "No space left on device", str(made))
        return seal(made, folder, step)

    checkpoints.seal = full


WAYS: dict[str, Callable[[Spec, Any], None]] = {
    way.__name__.replace("_", " "): way
    for way in (killed, half_written, out_of_memory, driver_fault, no_number, bug, disk_full)
}


class Drill(TrainerCallback):  # type: ignore[misc]
    def __init__(self, spec: Spec, how: str) -> None:
        self._spec, self._way, self._again = spec, WAYS[how.removesuffix(" again")], how.endswith(" again")

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        broken = self._spec.work / "broken"
        if state.global_step == STEP and (self._again or not broken.exists()):
            broken.touch()
            self._way(self._spec, model)


def main(how: str, spec_file: Path) -> int:
    """The child, whose backend gets the callback."""
    run = trl.run

    def drilled(spec: Spec, tell: Tell) -> None:
        run(spec, tell, [Drill(spec, how)])

    trl.run = drilled  # type: ignore[assignment]
    return child.main(spec_file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
