"""The model that evaluation is measured with, and the cases: a demo's, or those of a small retrain made here."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from opstune import dataset as datasets
from opstune import pipeline
from opstune import settings as configuration
from opstune.artifacts import Ref, find
from opstune.bench.corpus import history
from opstune.settings import EvaluateSettings
from opstune.tables import read_examples

if TYPE_CHECKING:
    from opstune.engines.base import Case

_PROFILE = "tiny"
#: Days of history where no demo has run: some 900 training examples of its three skills.
_DAYS = 12
#: Cases of the test set; the naive loop takes long.
_CASES = 96


@dataclass(frozen=True)
class Subject:
    """A base, what was trained from it, and the cases of its test set with the expected answers."""

    folder: Path
    base: Path
    adapter: Ref
    cases: list[Case]
    expected: list[str]
    asked: EvaluateSettings


@cache
def _folders() -> list[tempfile.TemporaryDirectory[str]]:
    """A folder that is removed when the process ends."""
    return [tempfile.TemporaryDirectory(prefix="opstune-bench-evaluating-")]


def latest(*stages: str) -> list[Ref] | None:
    """What these stages made in the latest retrain of the embedded base here that has them all, as a demo leaves it."""
    runs = configuration.load().runs_dir
    for file in sorted(runs.glob("*/train/training.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        made = [ref for stage in stages if (ref := find(file.parents[1] / stage))]
        if len(made) == len(stages) and json.loads(file.read_text()).get("profile") == _PROFILE:
            return made
    return None


def _taught(folder: Path) -> list[Ref]:
    """Dataset and adapter of a small retrain."""
    from opstune import train
    from opstune.settings import TrainSettings

    found = history(folder, _DAYS)
    asked = found.settings.dataset.model_copy(update={"skills": configuration.load().dataset.skills})
    keys = pipeline.keyring(found.settings)
    dataset = datasets.build(folder / "dataset", found.examples, folder / "splits.parquet", asked, "full", keyring=keys)
    return [dataset, train.Trainer(folder / "train", dataset, train.load_profile(_PROFILE), TrainSettings()).run()]


@cache
def measured_on() -> Subject:
    from opstune import train
    from opstune.engines.base import Case
    from opstune.skills.base import target

    folder = Path(_folders()[0].name)
    dataset, adapter = latest("dataset", "train") or _taught(folder)
    examples = read_examples(dataset.path / "test.parquet")[:_CASES]
    return Subject(
        folder,
        train.base_folder(train.load_profile(_PROFILE)),
        adapter,
        [Case(example.skill, example.context) for example in examples],
        [target(example.answer) for example in examples],
        configuration.load().evaluate,
    )
