"""What happens at a step of a training: checkpoints are sealed, a runaway loss is stopped, progress is told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from opstune.errors import Diverged
from opstune.train import checkpoints
from opstune.train.progress import Progress, Tell
from opstune.train.sft import AnswerTrainer
from opstune.train.spec import Spec

#: A loss this much above its start (in nats and as a factor, whichever is more) has run away.
RUNAWAY_NATS, RUNAWAY_FACTOR = 1.0, 2.0
_SMOOTHED_OVER = 10


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Moves every checkpoint to its place, whole, keeps the last few, and tells."""

    def __init__(self, spec: Spec, tell: Tell) -> None:
        self._spec, self._tell = spec, tell

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        made = checkpoints.place(Path(args.output_dir), state.global_step)
        checkpoints.seal(made, self._spec.checkpoints, state.global_step)
        checkpoints.keep_last(self._spec.checkpoints, self._spec.keep_checkpoints)
        self._tell("saved", step=state.global_step)


class Lookout(TrainerCallback):  # type: ignore[misc]
    """Stops a training whose loss is no number, or has run away, before a checkpoint keeps it."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._smoothed = 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Diverged(f"the loss is {loss} and its gradient {norm:.3g}")
        if len(self._first) < _SMOOTHED_OVER:
            self._first.append(loss)
            self._smoothed = sum(self._first) / len(self._first)
            return
        self._smoothed += (loss - self._smoothed) / _SMOOTHED_OVER
        start = sum(self._first) / len(self._first)
        if self._smoothed > max(start + RUNAWAY_NATS, start * RUNAWAY_FACTOR):
            raise Diverged(f"the loss has risen from {start:.3f} to {self._smoothed:.3f}")


class TellProgress(TrainerCallback):  # type: ignore[misc]
    """One progress event every few seconds, and one at the first and at the last step."""

    def __init__(self, trainer: AnswerTrainer, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._trainer, self._tell, self._clock = trainer, tell, clock
        self._every = trainer.spec.progress_seconds
        self._began = self._told = clock()
        self._from_step = self._from_tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.tokens = self._from_tokens = state.num_input_tokens_seen
        self._from_step, self._began = state.global_step, self._clock()
        self._tell("begins", step=state.global_step, of=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        now, step = self._clock(), state.global_step
        first, last = step == self._from_step + 1, step == state.max_steps
        if "loss" not in logs or not (first or last or now - self._told >= self._every):
            return
        self._told, spent = now, max(now - self._began, 1e-9)
        progress = Progress(
            step=step,
            of=state.max_steps,
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            tokens_per_second=(self._trainer.tokens - self._from_tokens) / spent,
            memory_mb=_memory_mb(),
            seconds_left=spent / (step - self._from_step) * (state.max_steps - step),
        )
        # The history is part of every checkpoint: a resumed training still knows the points before.
        state.log_history.append(
            {
                "step": step,
                "tokens_per_second": round(progress.tokens_per_second, 1),
                "memory_mb": round(progress.memory_mb),
            }
        )
        self._tell("progress", **vars(progress))


def _memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20
