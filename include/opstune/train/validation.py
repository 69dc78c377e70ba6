"""The loss over the validation examples as a training goes on: which step is the best, and when to stop.

All of it follows from the trainer's history of losses, which every checkpoint holds, so a resumed training decides
what an uninterrupted one would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from opstune.errors import Diverged
from opstune.train import checkpoints
from opstune.train.batches import Row
from opstune.train.examples import IGNORED, Tokens
from opstune.train.profiles import EarlyStopping
from opstune.train.progress import Tell
from opstune.train.sft import AnswerTrainer

_LOSS = "validation_loss"


@dataclass(frozen=True)
class Course:
    """The validation losses so far, (step, loss) in their order.

    ``best`` is the step of the lowest one, ``stale`` how many came after the last that was lower by more than the
    gain asked for, and ``over`` whether these are as many as patience allows.
    """

    points: tuple[tuple[int, float], ...]
    best: int | None
    stale: int
    over: bool


def course(history: Sequence[dict[str, Any]], stopping: EarlyStopping | None) -> Course:
    """Where a training stands, from its log history."""
    points = tuple((int(entry["step"]), float(entry[_LOSS])) for entry in history if _LOSS in entry)
    gain = stopping.minimum_gain if stopping else 0.0
    held, stale = math.inf, 0
    for _, loss in points:
        held, stale = (loss, 0) if loss < held - gain else (held, stale + 1)
    best = min(points, key=lambda point: point[1])[0] if points else None
    return Course(points, best, stale, stopping is not None and stale >= stopping.patience)


def every(asked: float, steps: int) -> int:
    """Steps from one evaluation to the next: below 1 a share of all ``steps``, else their number."""
    return max(round(asked * steps), 1) if asked < 1 else int(asked)


def loss_of(trainer: AnswerTrainer, model: Any, rows: Sequence[Tokens]) -> float:
    """Mean loss over all answer tokens of ``rows``, which the processes of a training share out.

    Nothing of the training is disturbed: no random number is drawn, no token counted, and the model learns on.
    """
    longest_first = sorted(rows, key=lambda row: -len(row.ids))
    share: list[Row] = [{"input_ids": row.ids, "labels": row.labels} for row in longest_first]
    share = share[trainer.args.process_index :: trainer.args.world_size]
    summed = torch.zeros(2, dtype=torch.float64)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in trainer.layout(share)["parts"]:
                inputs = trainer._prepare_inputs(part)
                count = int((inputs["labels"][:, 1:] != IGNORED).sum())
                if count:
                    summed += torch.tensor([float(trainer.compute_loss(model, inputs)) * count, count])
    finally:
        model.train(training)
    total, count = trainer.accelerator.reduce(summed.to(trainer.args.device), "sum").tolist()
    return float(total / count)


class Validate(TrainerCallback):  # type: ignore[misc]
    """Evaluates every so often and at the last step, keeps a checkpoint of the best, and stops early where asked."""

    def __init__(self, trainer: AnswerTrainer, rows: Sequence[Tokens], tell: Tell) -> None:
        self._trainer, self._rows, self._tell = trainer, rows, tell

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        spec, step = self._trainer.spec, state.global_step
        assert spec.validate_every is not None
        if step % every(spec.validate_every, state.max_steps) and step < state.max_steps:
            return
        loss = loss_of(self._trainer, model, self._rows)
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss is {loss}")
        state.log_history.append({"step": step, _LOSS: loss})
        now = course(state.log_history, spec.early_stopping)
        self._tell("validated", step=step, loss=loss, best=now.best)
        control.should_save = control.should_save or now.best == step or now.over
        control.should_training_stop = control.should_training_stop or now.over


def take_best(trainer: AnswerTrainer) -> int:
    """Load the weights of the best step whose checkpoint is whole, and return it; the last step where there is none."""
    spec, last = trainer.spec, int(trainer.state.global_step)
    now = course(trainer.state.log_history, spec.early_stopping)
    for step, _ in sorted(now.points, key=lambda point: point[1]):
        if step == last:
            break
        kept = checkpoints.place(spec.checkpoints, step)
        if checkpoints.complete(kept):
            trainer._load_from_checkpoint(str(kept))
            return step
    return last


def facts(trainer: AnswerTrainer, chosen: int) -> dict[str, Any]:
    """The validation curve, the step that was chosen, and why the training ended."""
    spec, state = trainer.spec, trainer.state
    now = course(state.log_history, spec.early_stopping)
    ended = f"all {state.max_steps} steps were made"
    if now.over and state.global_step < state.max_steps:
        ended = f"the validation loss did not fall any further in {now.stale} evaluations"
    losses = dict(now.points)
    return {
        "chosen_step": chosen,
        "ended": ended,
        "validation_loss": losses.get(chosen),
        "validation": [{"step": step, "loss": loss} for step, loss in now.points],
    }
