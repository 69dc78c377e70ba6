"""What every backend leaves behind: the facts of a training in ``training.json``, and its folder, whole or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opstune.train.spec import Spec

#: Keys of a spec that say where things stand on this machine, or how often something is told.
_NOT_FACTS = {"base", "examples", "work", "parent", "validation", "progress_seconds"}
#: The loss of a training is the mean of its last so many steps.
_LAST = 10

Curve = Sequence[dict[str, float]]


def curve(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Loss, learning rate and gradient norm of every step, from the log history of a transformers trainer."""
    names = {"step": "step", "loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
    entries = (entry for entry in history if "loss" in entry)
    return [{name: entry[key] for key, name in names.items() if key in entry} for entry in entries]


def progress(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Speed and memory at the steps where progress was told, from the same history."""
    names = ("step", "tokens_per_second", "memory_mb")
    return [{name: entry[name] for name in names} for entry in history if "tokens_per_second" in entry]


def facts(spec: Spec, points: Curve, **more: Any) -> dict[str, Any]:
    """What ``training.json`` says of a training: what was asked, and how it went. ``more`` is the backend's own."""
    last = points[-min(_LAST, len(points)) :]
    return {
        "base": spec.base_name,
        "base_sha256": spec.base_sha256,
        "profile": spec.profile,
        "method": spec.method,
        "holds": "weights" if spec.whole else "adapter",
        "settings": spec.model_dump(mode="json", exclude=_NOT_FACTS),
        "parent": spec.parent_sha256,
        "loss": sum(point["loss"] for point in last) / len(last) if last else None,
        **more,
        "curve": list(points),
    }


def put(spec: Spec, told: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder, add ``training.json``, and put the folder at ``spec.finished``."""
    made = spec.finished.with_name(".finished.partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        write(made)
        (made / "training.json").write_text(json.dumps(told, indent=1) + "\n")
        made.replace(spec.finished)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def name_base(folder: Path, spec: Spec) -> None:
    """Let an adapter's configuration name its base as the profile does, never by a path of this machine."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = spec.base_name
    config["target_modules"] = sorted(config["target_modules"])  # a set there: its order changes from run to run
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
