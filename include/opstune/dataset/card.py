"""The dataset card: one HTML page, self-contained and without scripts, that people can judge a dataset by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from opstune import skills
from opstune.dataset.choose import Parts, label
from opstune.dataset.curate import Cluster
from opstune.dataset.split import SPLITS
from opstune.dataset.summary import Summary
from opstune.dataset.validate import UNANSWERED
from opstune.examples import Example
from opstune.skills.base import target

_SHOWN_EXAMPLES = 10
_SHOWN_CLUSTERS = 3
_SHOWN_PEOPLE = 8


def render(summary: Summary, written: Parts, clusters: Sequence[Cluster]) -> str:
    """The page of a dataset: its summary, ten examples, and some near duplicates with their differences marked."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(thousands=lambda n: f"{n:,}", percent=percent, day=_day, age=_age, factor=_factor)
    return environment.get_template("card.html.j2").render(
        **summary,
        names=SPLITS,
        balance=_balance(summary),
        histograms=_histograms(summary),
        influences=_influences(summary),
        examples=[_shown(example) for example in _picked(written["train"])],
        near=[_compared(cluster) for cluster in _telling(clusters)],
        biggest_week=max(sum(week[split] for split in SPLITS) for week in summary["weeks"]),
        dropped=sum(entry["count"] for entry in summary["drops"]),
        waiting=sum(entry["count"] for entry in summary["drops"] if entry["reason"] == UNANSWERED),
    )


def percent(part: float, whole: float) -> str:
    """A share in words: no decimals, except below one percent."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 1 else f"{share:.0f} %"


def _day(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%-d %B %Y}"


def _age(days: float) -> str:
    return "under a day" if days < 1 else f"{days:.1f} days" if days < 10 else f"{days:,.0f} days"


def _factor(factor: float) -> str:
    return f"{factor:g} times"


def _histograms(summary: Summary) -> list[dict[str, Any]]:
    """Skill by skill the lengths to draw, tokens where they were counted, and a line about the words."""
    tokens = summary["tokens"]["skills"] if summary["tokens"] else {}
    return [
        {
            "skill": skill,
            "unit": "tokens" if skill in tokens else "words",
            "drawn": tokens.get(skill, words),
            "words": words if skill in tokens else None,
        }
        for skill, words in summary["lengths"].items()
    ]


def _influences(summary: Summary) -> list[dict[str, Any]]:
    """The people and the batches with the largest shares of a skill, and how many more there are."""
    feedback = summary["feedback"]
    return [
        {
            "of": title,
            "rows": [{**entry, "name": entry[key]} for entry in feedback[kind][:_SHOWN_PEOPLE]],
            "more": max(len(feedback[kind]) - _SHOWN_PEOPLE, 0),
        }
        for title, kind, key in (("person", "users", "user"), ("batch", "batches", "batch"))
    ]


def _balance(summary: Summary) -> list[dict[str, Any]]:
    """Skill by skill, each class with its number in every split, in the order of the training data."""
    tables = []
    every = {skill for split in SPLITS for skill in summary["splits"][split]["skills"]}
    for skill in sorted(every):
        by_split = {split: summary["splits"][split]["skills"].get(skill, {}) for split in SPLITS}
        names = sorted({name for counts in by_split.values() for name in counts})
        rows = [{"name": name, **{split: by_split[split].get(name, 0) for split in SPLITS}} for name in names]
        rows.sort(key=lambda row: -row["train"])
        totals = {split: sum(by_split[split].values()) for split in SPLITS}
        tables.append(
            {"skill": skill, "rows": rows, "totals": totals, "widest": max(row["train"] for row in rows) or 1}
        )
    return tables


def _picked(examples: Sequence[Example]) -> list[Example]:
    """Ten examples, skills in turn, each time another class; by id, so that the same dataset shows the same ones."""
    queues: dict[str, dict[str, list[Example]]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        queues.setdefault(example.skill, {}).setdefault(label(example), []).append(example)
    turns = {
        skill: [
            by_class[name][turn]
            for turn in range(_SHOWN_EXAMPLES)
            for name in sorted(by_class)
            if turn < len(by_class[name])
        ]
        for skill, by_class in sorted(queues.items())
    }
    picked = [turns[skill][turn] for turn in range(_SHOWN_EXAMPLES) for skill in turns if turn < len(turns[skill])]
    return picked[:_SHOWN_EXAMPLES]


def _shown(example: Example) -> dict[str, str]:
    return {
        "skill": example.skill,
        "label": label(example),
        "source": example.source,
        "day": f"{example.occurred_at:%-d %b %Y}",
        "prompt": skills.get(example.skill).render(example.context),
        "target": target(example.answer),
    }


def _telling(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Some clusters to show: the largest ones, by id where they are equal."""
    return sorted(clusters, key=lambda cluster: (-len(cluster.dropped), cluster.kept[0]))[:_SHOWN_CLUSTERS]


def _compared(cluster: Cluster) -> dict[str, Any]:
    """The kept text and one of its near duplicates, as (words, differs) runs."""
    left, right = (re.findall(r"\s*\S+", text) for text in (cluster.kept[1], cluster.dropped[0][1]))
    kept, dropped = [], []
    for change, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        kept.append(("".join(left[i:j]), change != "equal"))
        dropped.append(("".join(right[k:m]), change != "equal"))
    return {"size": len(cluster.dropped) + 1, "kept": kept, "dropped": dropped}
