"""What the tests of the child's work share: a spec on the small base, what it told, and what it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from training_data import example
from transformers import TrainerCallback

from opstune.tables import write_examples
from opstune.train.profiles import Profile
from opstune.train.spec import Spec


class Told(list[dict[str, Any]]):
    def __call__(self, event: str, **facts: Any) -> None:
        self.append({"event": event, **facts})

    def steps(self, event: str) -> list[int]:
        return [told["step"] for told in self if told["event"] == event]


class Break(TrainerCallback):
    """Raises when a step begins."""

    def __init__(self, step: int, error: Exception) -> None:
        self.step, self.error = step, error

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise self.error


def make_spec(work: Path, base: Path, profile: Profile, **changes: Any) -> Spec:
    work.mkdir(parents=True)
    write_examples(work / "train.parquet", [example(number) for number in range(18)])
    shared = set(Spec.model_fields) & set(Profile.model_fields) - {"base", "base_sha256"}
    values = {
        **{name: getattr(profile, name) for name in shared},
        "asked": "x", "base": base, "base_name": "base", "base_sha256": "0", "examples": work / "train.parquet",
        "work": work, "parent": None, "parent_sha256": None, "profile": profile.name, "max_steps": None,
        "checkpoint_steps": 2, "checkpoint_minutes": None, "keep_checkpoints": 2, "progress_seconds": 100, "seed": 7,
    }  # fmt: skip
    return Spec.model_validate({**values, **changes})


def weights(spec: Spec) -> dict[str, torch.Tensor]:
    return load_file(spec.finished / "adapter_model.safetensors")


def facts(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((spec.finished / "training.json").read_text())
    return found


def same(left: Spec, right: Spec) -> bool:
    one, other = weights(left), weights(right)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
