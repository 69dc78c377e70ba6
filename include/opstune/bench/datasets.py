"""Rows about the dataset: building one of 10,000, 100,000 and a million examples, and near duplicates beside peers."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from opstune import settings as configuration
from opstune.bench import corpus, peers
from opstune.bench.building import STEPS
from opstune.bench.environments import interpreter
from opstune.bench.rows import Measure, Measured, last_line, python, row
from opstune.cli.output import console
from opstune.errors import ServiceDown

#: Peer → its driver among ``peers``, and the packages that it needs.
_PEERS = {
    "datasketch": ("datasketch_lsh.py", ["datasketch==2.0.0"]),
    "datatrove": (
        "datatrove_minhash.py",
        [
            "datatrove==0.10.1",
            "spacy==3.8.18",
            "tokenizers==0.23.3",
            "orjson==3.13.0",
            "regex==2026.11.15",
            "xxhash==3.8.2",
        ],
    ),
}


@cache
def _built(examples: int) -> dict[str, Any]:
    """What one build of so many examples took, in a process of its own."""
    found = corpus.frozen(examples)
    days = str(found.settings.simulate.days)
    facts: dict[str, Any] = json.loads(python("-m", "opstune.bench.building", str(found.settings.home), days))
    return facts


def _speed(examples: int, smaller: int | None = None) -> Measure:
    """Examples a second through a whole build; the baseline is the speed of a smaller one."""

    def measure() -> Measured:
        speeds = [_built(size)["examples"] / _built(size)["seconds"] for size in (examples, smaller) if size]
        return Measured(speeds[0], "examples/s", speeds[1] if smaller else None, int(_built(examples)["examples"]))

    return measure


def _figure(examples: int, name: str, unit: str) -> Measure:
    return lambda: Measured(float(_built(examples)[name]), unit, None, int(_built(examples)["examples"]))


def _step(examples: int, name: str) -> Measure:
    return lambda: Measured(float(_built(examples)["steps"][name]), "s", None, int(_built(examples)["examples"]))


row("dataset_build_10k")(_speed(10_000))
row("dataset_build_100k")(_speed(100_000))
row("dataset_build_100k_seconds")(_figure(100_000, "seconds", "s"))
row("dataset_build_100k_cpu_seconds")(_figure(100_000, "cpu_seconds", "s"))
row("dataset_build_100k_peak_rss_mb")(_figure(100_000, "peak_mb", "MB"))
for _name in STEPS:
    row(f"dataset_build_100k_{_name}_seconds")(_step(100_000, _name))
for _name, _examples in (("300k", 300_000), ("1m", 1_000_000)):
    row(f"dataset_build_{_name}", on_request=True)(_speed(_examples, smaller=100_000))
    row(f"dataset_build_{_name}_peak_rss_mb", on_request=True)(_figure(_examples, "peak_mb", "MB"))


@dataclass(frozen=True)
class _Found:
    """How quickly near duplicates were found, the share of planted ones found, and how many more were dropped."""

    speed: float
    recall: float
    others: int


@cache
def _beside(peer: str) -> tuple[_Found, _Found]:
    """Ours and a peer's, one after the other on the same texts.

    A planted pair is found where one of the two is dropped. No other two of the texts reach our threshold, so a
    peer's further drops are its own mistakes or its other notion of alike.

    Raises:
        ServiceDown: the peer cannot be installed or does not run here.
    """
    from opstune.dataset import duplicates

    driver, requirements = _PEERS[peer]
    theirs = interpreter(configuration.load().tools_dir / f"{peer}-venv", requirements)
    given = corpus.texts(100_000)
    settings = configuration.load().dataset
    started = time.perf_counter()
    found = duplicates.find(given.texts, settings.near_duplicate_threshold, settings.seed, settings.linked_threshold)
    ours = _found(given, time.perf_counter() - started, [*found.exact, *found.near])
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.jsonl"
        texts.write_text("".join(f"{json.dumps({'text': text})}\n" for text in given.texts))
        try:
            told = last_line([str(theirs), str(Path(peers.__file__).parent / driver), str(texts), f"{folder}/work"])
        except subprocess.CalledProcessError as error:
            what = f"not measured: {peer}'s driver ended with {error.returncode}"
            raise ServiceDown(what, str(driver), "See what it said above.") from error
    facts = json.loads(told)
    peers_own = _found(given, facts["seconds"], facts["dropped"])
    for name, one in (("opstune", ours), (peer, peers_own)):
        load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
        console.print(
            f"near duplicates, {name}: {one.speed:,.0f} texts/s, {one.recall:.1%} of {len(given.planted)} planted, "
            f"{one.others} others dropped (load {load})"
        )
    return ours, peers_own


def _found(given: corpus.Texts, seconds: float, dropped: Iterable[int]) -> _Found:
    gone = set(dropped)
    share = sum(bool(gone & set(pair)) for pair in given.planted) / len(given.planted)
    others = gone - {position for pair in given.planted for position in pair}
    return _Found(len(given.texts) / seconds, share, len(others))


def _near_duplicates(peer: str) -> Measure:
    """Texts a second of our near-duplicate step on some 100,000; the baseline is the peer's."""

    def measure() -> Measured:
        ours, theirs = _beside(peer)
        return Measured(ours.speed, "texts/s", theirs.speed, len(corpus.texts(100_000).texts))

    return measure


def _recall(peer: str) -> Measure:
    """Share of planted edits of one to three words that our step finds; the baseline is the peer's share."""

    def measure() -> Measured:
        ours, theirs = _beside(peer)
        return Measured(ours.recall, "share", theirs.recall, len(corpus.texts(100_000).planted))

    return measure


for _name in _PEERS:
    row(f"near_duplicates_vs_{_name}")(_near_duplicates(_name))
    row(f"near_duplicates_recall_vs_{_name}")(_recall(_name))
