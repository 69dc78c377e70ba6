"""What is measured on: a made-up history, collected and frozen, and its texts with known near duplicates."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from opstune import pipeline
from opstune import settings as configuration
from opstune.artifacts import Ref
from opstune.settings import Settings
from opstune.skills import SKILLS

_PLANTED = 2000
_WORDS = ("again", "still", "now", "today", "here", "once", "more")


@dataclass(frozen=True)
class Frozen:
    """A home with its settings, and the snapshot of what was collected there."""

    settings: Settings
    examples: Ref


@dataclass(frozen=True)
class Texts:
    """Texts of which no two are alike, then edited copies of some: ``planted`` holds (position, position of copy)."""

    texts: list[str]
    planted: list[tuple[int, int]]


def home(folder: Path, days: int) -> Settings:
    """Settings of a home of its own that is connected to a history of so many days; all skills, none refused."""
    history = folder / "history"
    urls = {"opstune_database": f"sqlite:///{history / 'oncall.db'}", "opstune_files": str(history)}
    return configuration.load(
        {
            "home": folder,
            "simulate": {"days": days},
            "collect": {"days_back": 36_500},
            "dataset": {"skills": list(SKILLS), "maximum": 100_000_000, "minimum_test": 1, "max_class_share": 1.0},
            "connections": {name: {"url": url} for name, url in urls.items()},
        }
    )


def history(folder: Path, days: int) -> Frozen:
    """A made-up history of so many days, collected and frozen."""
    from opstune import collect
    from opstune.simulate import write_history

    settings = home(folder, days)
    write_history(folder / "history", settings.simulate)
    reports = pipeline.collect_all(settings)
    keyring = pipeline.keyring(settings)
    return Frozen(settings, collect.snapshot(folder / "collect", settings.examples_dir, reports, keyring))


@cache
def frozen(examples: int) -> Frozen:
    """A history of at least so many examples; the same for all rows of one run."""
    few = history(_folder(), 10)
    a_day = few.examples.counts["rows"] / 10
    return history(_folder(), math.ceil(1.01 * examples / a_day))


@cache
def texts(examples: int) -> Texts:
    """What the model would see of a history, without duplicates, and copies with one to three words put in."""
    from opstune.dataset import duplicates, scrub, validate
    from opstune.store import read_snapshot

    corpus = frozen(examples)
    settings = corpus.settings.dataset
    records = read_snapshot(corpus.examples, pipeline.keyring(corpus.settings))
    clean, _ = scrub.scrub(validate.usable(records, settings.skills)[0])
    every = [duplicates.text_of(example) for example in clean]
    found = duplicates.find(every, settings.near_duplicate_threshold, settings.seed)
    kept = [text for position, text in enumerate(every) if position not in found.near and position not in found.exact]
    rng = Random(7)
    planted = [(position, len(kept) + n) for n, position in enumerate(rng.sample(range(len(kept)), _PLANTED))]
    return Texts([*kept, *(_edited(kept[position], rng) for position, _ in planted)], planted)


def _edited(text: str, rng: Random) -> str:
    words = text.split(" ")
    for _ in range(rng.choice((1, 2, 3))):
        words.insert(rng.randrange(1, len(words)), rng.choice(_WORDS))
    return " ".join(words)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _folder() -> Path:
    """A folder that is removed when the process ends."""
    _folders.append(tempfile.TemporaryDirectory(prefix="opstune-bench-"))
    return Path(_folders[-1].name)
