"""What happens at a step of a training: a runaway loss is stopped, checkpoints are sealed, progress is told.

What must survive a resume is read back from the trainer's history of losses, which every checkpoint holds.
"""

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
from opstune.train.validation import course

#: A loss this much above its start (in nats and as a factor, whichever is more) has run away.
RUNAWAY_NATS, RUNAWAY_FACTOR = 1.0, 2.0
_SMOOTHED_OVER = 10


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Says when a checkpoint is due, moves it to its place, whole, and keeps the last few and the best."""

    def __init__(self, spec: Spec, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec, self._tell, self._clock = spec, tell, clock
        self._saved_at = clock()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        steps, minutes = self._spec.checkpoint_steps, self._spec.checkpoint_minutes
        by_steps = steps is not None and state.global_step % steps == 0
        by_clock = minutes is not None and self._clock() - self._saved_at >= 60 * minutes
        if by_steps or by_clock or state.global_step >= state.max_steps:
            control.should_save = True

    def on_save(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        if name := _poisoned(model, optimizer):
            raise Diverged(f"after step {state.global_step} {name} holds what is no number")
        made = checkpoints.place(Path(args.output_dir), state.global_step)
        checkpoints.seal(made, self._spec.checkpoints, state.global_step)
        best = course(state.log_history, self._spec.early_stopping).best
        checkpoints.keep_last(self._spec.checkpoints, self._spec.keep_checkpoints, best)
        self._saved_at = self._clock()
        self._tell("saved", step=state.global_step)


class Lookout(TrainerCallback):  # type: ignore[misc]
    """Stops a training whose loss is no number, or has run away, before a checkpoint keeps it."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._smoothed = 0.0
        self._sound = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for entry in state.log_history:
            if "loss" in entry:
                self._look(int(entry["step"]), float(entry["loss"]))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise self._diverged(f"the loss is {loss} and its gradient {norm:.3g}")
        self._look(state.global_step, loss)

    def _look(self, step: int, loss: float) -> None:
        if len(self._first) < _SMOOTHED_OVER:
            self._first.append(loss)
            self._smoothed = sum(self._first) / len(self._first)
        else:
            self._smoothed += (loss - self._smoothed) / _SMOOTHED_OVER
        start = sum(self._first) / len(self._first)
        rise, limit = self._smoothed - start, max(RUNAWAY_NATS, start * (RUNAWAY_FACTOR - 1))
        if rise > limit:
            raise self._diverged(f"the loss has risen from {start:.3f} to {self._smoothed:.3f}")
        if rise <= limit / 2:  # half way up a checkpoint is whole, and no good to go on from
            self._sound = step

    def _diverged(self, what: str) -> Diverged:
        error = Diverged(what)
        error.sound = self._sound
        return error


class HalvedRate(TrainerCallback):  # type: ignore[misc]
    """Halves what is left of the schedule, once for each time that the loss diverged before."""

    def __init__(self, spec: Spec, tell: Tell) -> None:
        self._spec, self._tell = spec, tell

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **kwargs: Any
    ) -> None:
        peak = self._spec.peak_rate
        for group in optimizer.param_groups:
            group["lr"] *= peak / group["initial_lr"]  # 1, where the checkpoint is of an attempt at this rate
            group["initial_lr"] = peak
        lr_scheduler.base_lrs = [peak for _ in lr_scheduler.base_lrs]
        lr_scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
        for halving in self._spec.halvings:
            text = (
                f"From step {halving.since} on at half the learning rate: at step {halving.diverged_at} {halving.why}."
            )
            self._tell("note", text=text)


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


def _poisoned(model: Any, optimizer: Any) -> str | None:
    """The first of the weights that are learnt, or of the optimiser's moments, with a number that is none."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            return str(name)
    for moments in optimizer.state.values():
        for name, value in moments.items():
            if torch.is_tensor(value) and value.is_floating_point() and not torch.isfinite(value).all():
                return f"the optimiser's {name}"
    return None


def _memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20
