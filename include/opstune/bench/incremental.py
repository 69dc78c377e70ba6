"""Rows about going on from the champion: a weekly retrain on 30 % new data beside a full retrain on everything.

Each seed is a made-up team, and a training, of its own. The team's first weeks teach the champion; then 30 % of the
history is new. All models are measured on the test set that was frozen before any of them was trained.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from opstune import collect, dataset, pipeline, train
from opstune import settings as configuration
from opstune.artifacts import Ref
from opstune.bench.rows import Measure, Measured, row
from opstune.cli.output import console
from opstune.settings import ReplaySettings, Settings, Strategy
from opstune.tables import read_examples
from opstune.train import Profile

SEEDS = (7, 8, 9)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True)
class Scale:
    """How much history: ``weeks`` of new data after ``days`` of old, and how long a training may be."""

    days: int = 49
    weeks: int = 3
    incidents_per_day: int = 5
    max_steps: int | None = None


@dataclass(frozen=True)
class Model:
    """A trained adapter: what its training took, and whether each test case was answered correctly, by id."""

    adapter: Ref
    rows: int
    seconds: float
    cpu_seconds: float
    right: dict[str, bool]

    def points(self, ids: Sequence[str] | None = None) -> float:
        """Per cent of the test cases (or of some of them) that were answered correctly."""
        return 100 * statistics.mean(self.right[id] for id in (ids or list(self.right)))


@dataclass(frozen=True)
class Season:
    """One team: its champion, a full retrain on everything, and what a weekly retrain starts from."""

    settings: Settings
    snapshot: Ref
    before: Ref
    everything: Ref
    old_tests: tuple[str, ...]
    champion: Model
    full: Model


@cache
def season(seed: int, scale: Scale) -> Season:
    """The history of a seed, its champion on the first weeks, and a full retrain on all of it."""
    from opstune.simulate import write_history

    settings = _settings(_folder() / f"seed-{seed}", seed, scale)
    write_history(settings.home / "history", settings.simulate)
    before = _dataset(settings, "before", _snapshot(settings, "then"))
    write_history(settings.home / "history", settings.simulate, weeks_after=scale.weeks)
    snapshot = _snapshot(settings, "now")
    everything = _dataset(settings, "everything", snapshot)
    profile, tests = train.load_profile("tiny"), _ids(before, "test")
    return Season(
        settings,
        snapshot,
        before,
        everything,
        tests,
        _trained(settings, "champion", before, everything, profile),
        _trained(settings, "full", everything, everything, profile),
    )


@cache
def weekly(seed: int, replay: ReplaySettings, profile: Profile, scale: Scale) -> Model:
    """A retrain that goes on from the season's champion."""
    found = season(seed, scale)
    name = f"weekly-{replay.strategy}-{replay.share}-{profile.incremental.epochs}"
    name += f"-{profile.incremental.learning_rate_factor}"
    settings = found.settings.model_copy(
        update={"dataset": found.settings.dataset.model_copy(update={"replay": replay})}
    )
    given = _dataset(settings, f"data-{name}", found.snapshot, found.before)
    return _trained(settings, name, given, found.everything, profile, found.champion.adapter.path)


def _configured(seed: int, strategy: Strategy | None = None) -> Model:
    """The weekly retrain as the configuration has it, or with another strategy."""
    replay = configuration.load().dataset.replay
    asked = replay.model_copy(update={"strategy": strategy or replay.strategy})
    return weekly(seed, asked, train.load_profile("tiny"), Scale())


@row("incremental_vs_full_seconds", on_request=True)
def incremental_vs_full_seconds() -> Measured:
    """Seconds of a weekly training on 30 % new data, its start included; the baseline is the full training."""
    return _against_full(lambda model: model.seconds, "s")


@row("incremental_vs_full_cpu_seconds", on_request=True)
def incremental_vs_full_cpu_seconds() -> Measured:
    """As above in seconds of the processor, which other work on the machine changes less."""
    return _against_full(lambda model: model.cpu_seconds, "s")


@row("incremental_vs_full_points", on_request=True)
def incremental_vs_full_points() -> Measured:
    """Per cent of the frozen test set that the weekly model answers correctly; the baseline is the full model's."""
    return _against_full(lambda model: model.points(), "%")


def _against_full(figure: Callable[[Model], float], unit: str) -> Measured:
    ours, theirs = [_configured(seed) for seed in SEEDS], [season(seed, Scale()).full for seed in SEEDS]
    for seed, one, other in zip(SEEDS, ours, theirs, strict=True):
        console.print(f"seed {seed}: weekly {_words(one)}; full {_words(other)}")
    means = [statistics.mean(map(figure, models)) for models in (ours, theirs)]
    return Measured(means[0], unit, means[1], len(SEEDS))


def _forgetting(strategy: Strategy) -> Measure:
    def measure() -> Measured:
        lost = []
        for seed in SEEDS:
            known, model = season(seed, Scale()), _configured(seed, strategy)
            lost.append(known.champion.points(known.old_tests) - model.points(known.old_tests))
            console.print(f"seed {seed}: {strategy} {_words(model)}; lost {lost[-1]:+.2f} of {len(known.old_tests)}")
        return Measured(statistics.mean(lost), "points", None, len(SEEDS))

    measure.__doc__ = f"Points that {strategy} replay loses on the tests of the champion's own time; below 0 it gains."
    return measure


for _strategy in STRATEGIES:
    row(f"incremental_forgetting_points_{_strategy}", on_request=True)(_forgetting(_strategy))


def _settings(home: Path, seed: int, scale: Scale) -> Settings:
    history = home / "history"
    urls = {"opstune_database": f"sqlite:///{history / 'oncall.db'}", "opstune_files": str(history)}
    return configuration.load(
        {
            "home": home,
            "simulate": {"seed": seed, "days": scale.days, "incidents_per_day": scale.incidents_per_day},
            "collect": {"days_back": 36_500},
            "dataset": {"minimum": 1, "minimum_test": 1},
            "train": {"seed": seed, "max_steps": scale.max_steps},
            "evaluate": {"free_decoding_sample": 0},
            "connections": {name: {"url": url} for name, url in urls.items()},
        }
    )


def _snapshot(settings: Settings, name: str) -> Ref:
    reports = pipeline.collect_all(settings)
    return collect.snapshot(settings.home / name, settings.examples_dir, reports, pipeline.keyring(settings))


def _dataset(settings: Settings, name: str, snapshot: Ref, parent: Ref | None = None) -> Ref:
    return dataset.build(
        settings.home / name,
        snapshot,
        settings.home / "splits.parquet",
        settings.dataset,
        "incremental" if parent else "full",
        parent.path if parent else None,
        keyring=pipeline.keyring(settings),
    )


def _trained(
    settings: Settings, name: str, given: Ref, tests: Ref, profile: Profile, parent: Path | None = None
) -> Model:
    """Train as a retrain does, in a child process, and ask the model all test cases."""
    started, worked = time.perf_counter(), _children_seconds()
    adapter = train.Trainer(settings.home / name, given, profile, settings.train, parent).run()
    seconds, cpu_seconds = time.perf_counter() - started, _children_seconds() - worked
    right = _right(settings, name, tests, train.base_folder(profile), adapter.path)
    model = Model(adapter, int(given.counts["train"]), seconds, cpu_seconds, right)
    console.print(f"{settings.home.name} {name}: {_words(model)} (load {os.getloadavg()[0]:.1f})")
    return model


def _right(settings: Settings, name: str, tests: Ref, base: Path, adapter: Path) -> dict[str, bool]:
    from opstune.engines.hugging_face import HuggingFaceEngine
    from opstune.evaluate.predict import predict

    asked = settings.evaluate
    engine = HuggingFaceEngine(
        base, adapter, batch_size=asked.batch_size, max_new_tokens=asked.max_new_tokens, threads=asked.threads
    )
    examples = read_examples(tests.path / "test.parquet")
    kept = settings.home / f"{name}.answers.json"
    answered = predict(name, engine, examples, tests.sha256, asked, kept)
    return {prediction.id: bool(prediction.scores["correct"]) for prediction in answered.predictions}


def _ids(ref: Ref, split: str) -> tuple[str, ...]:
    return tuple(example.id for example in read_examples(ref.path / f"{split}.parquet"))


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _words(model: Model) -> str:
    return (
        f"{model.points():.2f} % of {len(model.right)}, {model.rows} rows, {model.seconds:.0f} s "
        f"({model.cpu_seconds:.0f} CPU s)"
    )


_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _folder() -> Path:
    """A folder that is removed when the process ends."""
    _folders.append(tempfile.TemporaryDirectory(prefix="opstune-bench-"))
    return Path(_folders[-1].name)
