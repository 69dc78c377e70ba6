"""What of the train split is trained on: caps, weights, balance and minimum, and an incremental run's replay sample."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from opstune import skills
from opstune.dataset.split import SPLITS, Split
from opstune.dataset.validate import Drop
from opstune.errors import ConfigError, DataError
from opstune.examples import Example
from opstune.settings import DatasetSettings, ReplaySettings

Parts = dict[Split, list[Example]]
OVER_CAP = "over the skill's cap"
OVER_MAXIMUM = "over the maximum"
#: How the examples beyond ``dataset.maximum`` are chosen, as the card states it.
SAMPLING = (
    "The test set stays whole. Every skill may fill an equal share of the remaining room; what a small one leaves "
    "goes to the others. Within a skill the newest examples of train and validation stay."
)


def label(example: Example) -> str:
    """The class of an example's answer."""
    return skills.get(example.skill).label(example.answer)


def classes(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Skill → class → how many, the largest class first."""
    found: dict[str, Counter[str]] = {}
    for example in examples:
        found.setdefault(example.skill, Counter())[label(example)] += 1
    return {
        skill: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        for skill, counts in sorted(found.items())
    }


def cap(parts: Parts, maximum: int, caps: Mapping[str, int]) -> list[Drop]:
    """Leave out the oldest examples of train beyond each skill's cap, then what is beyond the maximum (``SAMPLING``).

    The test set is never touched: what was measured on once is measured on for ever.
    """
    dropped: list[Drop] = []
    trained: tuple[Split, ...] = ("train",)
    for skill, limit in sorted(caps.items()):
        dropped += _newest_only(parts, trained, limit, OVER_CAP, skill)
    subject: tuple[Split, ...] = ("train", "validation")
    counts = Counter(example.skill for split in subject for example in parts[split])
    for skill, limit in fair_shares(counts, max(maximum - len(parts["test"]), 0)).items():
        dropped += _newest_only(parts, subject, limit, OVER_MAXIMUM, skill)
    return dropped


def fair_shares(counts: Mapping[str, int], room: int) -> dict[str, int]:
    """How many of each skill fit: the smallest whole, the others alike (max-min fairness).

    By number alone a busy skill of the last weeks would push a rare one out of the data.
    """
    shares: dict[str, int] = {}
    for left, (skill, count) in zip(
        range(len(counts), 0, -1), sorted(counts.items(), key=lambda item: (item[1], item[0])), strict=True
    ):
        shares[skill] = min(count, room // left)
        room -= shares[skill]
    return shares


def _newest_only(parts: Parts, splits: Collection[Split], limit: int, reason: str, skill: str) -> list[Drop]:
    subject = [example for split in splits for example in parts[split] if example.skill == skill]
    excess = sorted(subject, key=lambda example: (example.occurred_at, example.id))[: max(len(subject) - limit, 0)]
    gone = {example.id for example in excess}
    for split in splits:
        parts[split] = [example for example in parts[split] if example.id not in gone]
    return [Drop.of(example, reason) for example in excess]


def check(parts: Parts, settings: DatasetSettings) -> None:
    """Refuse a dataset that is too small to teach or to measure, or where one class stands for all.

    Raises:
        DataError: says which number is short of which setting.
    """
    total = sum(len(parts[split]) for split in SPLITS)
    if total < settings.minimum:
        what = f"{total} usable examples are fewer than the {settings.minimum} that dataset.minimum asks for"
        raise DataError(what, "dataset", "Collect more (collect.days_back, more sources), or lower dataset.minimum.")
    for split in SPLITS:
        if not parts[split] and getattr(settings.split, split) > 0:
            raise DataError(
                f"the {split} split is empty", "dataset", "Collect more, or raise its share in dataset.split."
            )
    tested = Counter(example.skill for example in parts["test"])
    for skill in sorted({example.skill for examples in parts.values() for example in examples}):
        if tested[skill] < settings.minimum_test:
            what = (
                f"{skill} has {tested[skill]} test examples, fewer than dataset.minimum_test ({settings.minimum_test})"
            )
            todo = "Collect more, take the skill out of dataset.skills, or lower dataset.minimum_test."
            raise DataError(what, "dataset", todo)
    for skill, counts in classes(parts["train"]).items():
        (largest, n), of = next(iter(counts.items())), sum(counts.values())
        if n > settings.max_class_share * of:
            what = (
                f"{n} of {of} training examples of {skill} are {largest!r} ({n / of:.0%}), "
                f"more than the {settings.max_class_share:.0%} of dataset.max_class_share"
            )
            raise DataError(what, "dataset", "Collect other classes too, or raise dataset.max_class_share.")


def incremental(
    train: Sequence[Example], trained_before: Collection[str], settings: ReplaySettings, seed: int
) -> tuple[list[Example], list[Example]]:
    """New examples, and a sample of the old ones to replay: ``settings.share`` old for each new.

    Raises:
        DataError: nothing is new.
    """
    new = [example for example in train if example.id not in trained_before]
    old = [example for example in train if example.id in trained_before]
    if not new:
        what = "no training example is new since the model that this one would start from"
        raise DataError(what, "incremental dataset", "Collect first, or run a full retrain.")
    return new, replay(old, round(settings.share * len(new)), settings.strategy, seed)


def weigh(examples: Sequence[Example], weights: Mapping[str, float], seed: int) -> list[Example]:
    """The examples as often as ``weights`` (by ``skill`` or ``skill/class``, the class before the skill) say.

    2.5 is every example of the class twice, and a seeded half of them a third time.

    Raises:
        ConfigError: a weight names a skill that does not exist.
    """
    for key in weights:
        if key.partition("/")[0] not in skills.SKILLS:
            todo = f"Write skill or skill/class; the skills: {', '.join(skills.SKILLS)}."
            raise ConfigError(f"no skill is named {key!r}", "dataset.weights", todo)
    strata: dict[str, list[Example]] = {}
    for example in examples:
        strata.setdefault(f"{example.skill}/{label(example)}", []).append(example)
    rows = list[Example]()
    for name, members in strata.items():
        factor = weights.get(name, weights.get(name.partition("/")[0], 1.0))
        extra = round((factor - int(factor)) * len(members))
        rows += members * int(factor) + sorted(members, key=lambda example: _rank(example, seed))[:extra]
    return rows


def replay(examples: Sequence[Example], size: int, strategy: str, seed: int) -> list[Example]:
    """A sample of what was learnt before; all of it when ``size`` is more than there is.

    ``proportional``: each class of each skill has its share (largest remainders), drawn by the seed.
    ``balanced``: every class has as many, as far as it goes (``fair_shares``), drawn by the seed.
    ``recent``: each class has its share, its newest examples.
    """
    if size >= len(examples):
        return list(examples)
    strata: dict[str, list[Example]] = {}
    for example in examples:
        strata.setdefault(f"{example.skill}/{label(example)}", []).append(example)
    counts = {name: len(members) for name, members in strata.items()}
    taken = fair_shares(counts, size) if strategy == "balanced" else _proportional(counts, size)
    return [
        example
        for name in sorted(strata)
        for example in sorted(strata[name], key=lambda e: _turn(e, strategy, seed))[: taken[name]]
    ]


def _proportional(counts: Mapping[str, int], size: int) -> dict[str, int]:
    """Each stratum's share of ``size``, by largest remainders."""
    exact = {name: size * count / sum(counts.values()) for name, count in counts.items()}
    taken = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: (taken[name] - exact[name], name))[: size - sum(taken.values())]:
        taken[name] += 1
    return taken


def _turn(example: Example, strategy: str, seed: int) -> tuple[float, str]:
    return (-example.occurred_at.timestamp(), example.id) if strategy == "recent" else (0.0, _rank(example, seed))


def _rank(example: Example, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{example.id}".encode()).hexdigest()
