"""What the parent asks of the child: one JSON file, the whole interface between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from opstune.train.profiles import Attention, Backend, EarlyStopping, Freeze, Lora, Method, Precision


class Halving(BaseModel):
    """The loss diverged at a step, and the training went on from ``since``, 0 for its start, at half the rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    diverged_at: int
    since: int
    why: str


class Spec(BaseModel):
    """One training. ``asked`` is the fingerprint of everything that decides the result.

    ``fits`` is the share of the profile's batch that ``batch_size`` is: below 1 where memory ran out before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    base: Path
    base_name: str
    base_sha256: str
    examples: Path
    work: Path
    parent: Path | None
    parent_sha256: str | None
    profile: str
    backend: Backend
    method: Method
    lora: Lora | None
    freeze: Freeze | None
    chat_template: str | None
    epochs: float
    max_steps: int | None
    learning_rate: float
    halvings: tuple[Halving, ...] = ()
    schedule: str
    warmup: float
    weight_decay: float
    max_grad_norm: float
    batch_size: int
    accumulation: int
    fits: float = 1.0
    max_length: int
    optimiser: Literal["adamw", "adamw_8bit"]
    activation_checkpointing: bool
    attention: Attention
    precision: Precision
    packing: bool
    validation: Path | None = None
    validate_every: float | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint_steps: int | None
    checkpoint_minutes: float | None
    keep_checkpoints: int
    progress_seconds: float
    seed: int

    @property
    def whole(self) -> bool:
        """Whether whole weights are learnt and left behind, rather than an adapter."""
        return self.method in ("full", "freeze")

    @property
    def effective_batch(self) -> int:
        """Examples of one optimiser step, whatever fits into memory at once."""
        return self.batch_size * self.accumulation

    @property
    def peak_rate(self) -> float:
        """The learning rate that the schedule is a share of, halved for each time that the loss diverged."""
        return float(self.learning_rate * 0.5 ** len(self.halvings))

    @property
    def checkpoints(self) -> Path:
        return self.work / "checkpoints"

    @property
    def finished(self) -> Path:
        return self.work / "finished"


def split_batch(effective: int, largest: int) -> tuple[int, int]:
    """(batch, accumulation) of the same effective batch, with the largest batch that divides it and fits."""
    batch = max(size for size in range(1, min(effective, max(largest, 1)) + 1) if effective % size == 0)
    return batch, effective // batch
