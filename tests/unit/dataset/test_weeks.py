"""Four weekly collections of the generated history in a row, with near duplicates planted from week to week."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from opstune import collect, dataset, settings
from opstune.artifacts import Ref
from opstune.dataset.curate import EXACT, NEAR
from opstune.dataset.split import SPLITS
from opstune.dataset.validate import allows
from opstune.examples import Example
from opstune.settings import Connection, SimulateSettings
from opstune.simulate import UNTIL, write_history
from opstune.skills import SKILLS, get
from opstune.store import ExampleStore
from opstune.tables import read_examples

WEEKS = 4
PLANTED = {1: 66, 2: 67, 3: 67}
FILLERS = ("again", "still", "now", "today", "apparently", "once", "here", "slowly")


@dataclass(frozen=True)
class Week:
    """One week's dataset: who stands where, what was dropped and why, and all that was ever trained on."""

    ref: Ref
    sides: dict[str, str]
    dropped: dict[str, str]
    trained: set[str]

    def tested(self) -> set[str]:
        return {id for id, side in self.sides.items() if side == "test"}

    def side(self, example_id: str) -> str | None:
        """Train also when an earlier week trained on it and this one does not repeat it."""
        return self.sides.get(example_id) or ("train" if example_id in self.trained else None)


@dataclass(frozen=True)
class Season:
    weeks: list[Week]
    originals: dict[str, str]
    skills: set[str]


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Season:
    """Week after week: a further week of history, collected; near duplicates of what is known; a dataset."""
    home, rng = tmp_path_factory.mktemp("weeks"), Random(11)
    loaded = settings.load({"home": home})
    easy = {"minimum": 100, "minimum_test": 1, "max_class_share": 1.0, "skills": list(SKILLS)}
    asked = loaded.dataset.model_copy(update=easy)
    history = SimulateSettings(seed=3, days=24, incidents_per_day=8)
    urls = {"opstune_database": f"sqlite:///{home / 'history' / 'oncall.db'}", "opstune_files": str(home / "history")}
    connections = {name: Connection(url=SecretStr(url)) for name, url in urls.items()}
    weeks, originals, skills = list[Week](), dict[str, str](), set[str]()
    parent: Path | None = None
    for number in range(WEEKS):
        write_history(home / "history", history, weeks_after=number)
        reports = [
            collect.pull(source, loaded.examples_dir, loaded.collect, connections.get, home)
            for source in collect.source_names()
        ]
        if number:
            store = ExampleStore(loaded.examples_dir)
            known = [example for example in store.read() if example.id not in originals]
            copies = list(planted(known, weeks[-1], number, len(originals), rng))
            store.upsert(copy for copy, _ in copies)
            originals |= {copy.id: original for copy, original in copies}
            skills |= {copy.skill for copy, _ in copies}
        snapshot = collect.snapshot(home / f"snapshot-{number}", loaded.examples_dir, reports)
        ref = dataset.build(
            home / f"dataset-{number}", snapshot, home / "splits.parquet", asked,
            "incremental" if parent else "full", parent,
        )  # fmt: skip
        weeks.append(week_of(ref))
        parent = ref.path
    return Season(weeks, originals, skills)


def week_of(ref: Ref) -> Week:
    sides = {row.id: name for name in SPLITS for row in read_examples(ref.path / f"{name}.parquet")}
    lines = (ref.path / "dropped.jsonl").read_text().splitlines()
    dropped = {drop["id"]: drop["reason"] for drop in map(json.loads, lines)}
    return Week(ref, sides, dropped, set(json.loads((ref.path / "dataset.json").read_text())["train_ids"]))


def planted(known: list[Example], last: Week, week: int, start: int, rng: Random) -> Iterator[tuple[Example, str]]:
    """Copies with one to three changed words: of every skill, half of them of test examples, a fifth dated back."""
    by_side: dict[tuple[str, bool], list[Example]] = {}
    for example in known:
        if (side := last.side(example.id)) and any(texts(example.context)):
            by_side.setdefault((example.skill, side == "test"), []).append(example)
    skills = sorted({skill for skill, _ in by_side})
    for number in range(start, start + PLANTED[week]):
        original = rng.choice(by_side[skills[number % len(skills)], number // len(skills) % 2 == 0])
        at = UNTIL + timedelta(weeks=week - 1, minutes=rng.randrange(7 * 24 * 60))
        name = f"planted-{number}"
        changes = {"id": name, "source": "planted", "source_id": name, "group_id": name}
        changes["occurred_at"] = original.occurred_at - timedelta(hours=1) if number % 5 == 0 else at
        edits = rng.choices((1, 2, 3), (5, 3, 2))[0]
        yield edited(original, edits, rng).model_copy(update=changes), original.id


def edited(example: Example, edits: int, rng: Random) -> Example:
    """The example with so many words of its texts put in, replaced or taken out, its answer still possible."""
    while True:
        context = example.context
        for _ in range(edits):
            places = list(texts(context)) or list(texts(example.context))
            context = changed(context, rng.choice(places), rng)
        if allows(get(example.skill).schema(context), example.answer):
            return example.model_copy(update={"context": context})


def texts(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where texts of four or more words stand in a structure."""
    if isinstance(value, str) and len(value.split()) > 3:
        yield place
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(item, (*place, key))


def changed(value: Any, place: tuple[Any, ...], rng: Random) -> Any:
    """With a word put in, or one of letters alone replaced or taken out: a path is not a word but many."""
    if place:
        copy = value.copy()
        copy[place[0]] = changed(value[place[0]], place[1:], rng)
        return copy
    lines = [line.split(" ") for line in value.split("\n")]
    words = rng.choice([line for line in lines if len(line) > 1])
    plain = [at for at, word in enumerate(words) if word.isalpha()]
    removed, put = rng.choice(((0, 1), (1, 1), (1, 0))) if plain else (0, 1)
    at = rng.choice(plain) if removed else rng.randrange(len(words))
    words[at : at + removed] = rng.sample(FILLERS, put)
    return "\n".join(" ".join(line) for line in lines)


def test_no_example_moves_from_test_to_train_ever(season: Season) -> None:
    tested: set[str] = set()
    for week in season.weeks:
        assert tested <= week.tested()
        tested |= week.tested()
        assert not tested & week.trained
        assert not tested & {id for id, side in week.sides.items() if side == "train"}
    assert len(tested) > len(season.weeks[0].tested()) > 50


def test_every_week_trains_on_what_is_new(season: Season) -> None:
    for before, week in zip(season.weeks, season.weeks[1:], strict=False):
        assert week.ref.counts["new"] == len(week.trained - before.trained) > 100


def test_two_hundred_near_duplicates_across_weeks_are_all_caught(season: Season) -> None:
    """Each is dropped for its likeness, or stands on the side of what it repeats; in every week since it came."""
    assert len(season.originals) == 200
    assert season.skills == set(SKILLS)
    last = season.weeks[-1]
    assert sum(last.side(original) == "test" for original in season.originals.values()) >= 90
    for week in season.weeks:
        for copy, original in season.originals.items():
            assert week.side(copy) in (None, week.side(original)), f"{copy} repeats {original}"
    alike = [copy for copy in season.originals if last.dropped.get(copy) in (NEAR, EXACT)]
    aside = [copy for copy in season.originals if copy not in alike]
    assert len(alike) >= 190
    assert all(last.side(copy) or last.dropped.get(copy) for copy in aside)
