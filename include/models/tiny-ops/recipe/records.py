"""Records: random fields, their text, and the JSON that answers are written in."""

import json
from random import Random
from typing import Any

import words


def compact(value: Any) -> str:
    """JSON without spaces, as every answer is written."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def typed(value: str) -> Any:
    """An integer for plain digits, else the text: one rule for every task, so that it can be learnt."""
    return int(value) if value.isdigit() and (value == "0" or value[0] != "0") else value


def value_of(rng: Random) -> str:
    return words.phrase(rng, 2, 5) if rng.random() < 0.08 else words.name(rng)


def make_record(rng: Random, low: int, high: int) -> dict[str, str]:
    """Random fields. Some values resemble others (a prefix, one part changed): the wrong one must tempt."""
    record: dict[str, str] = {}
    for _ in range(rng.randint(low, high)):
        value = value_of(rng)
        if record and rng.random() < 0.3:
            value = _relative(rng, rng.choice(list(record.values())))
        record[words.key(rng)] = value
    return record


def _relative(rng: Random, value: str) -> str:
    parts = value.split("-")
    draw = rng.random()
    if len(parts) > 2 and draw < 0.5:
        return "-".join(parts[: rng.randint(1, len(parts) - 1)])
    if draw < 0.75:
        return f"{value}-{rng.choice((words.digits(rng, 1, 2), words.word(rng)))}"
    parts[rng.randrange(len(parts))] = words.word(rng)
    return "-".join(parts)


def lines_of(rng: Random, record: dict[str, str]) -> str:
    """`key: value` lines; about half the time a run of them stands in an indented block."""
    items = list(record.items())
    if rng.random() < 0.5 or len(items) < 2:
        return "\n".join(f"{k}: {v}" for k, v in items)
    start = rng.randrange(len(items) - 1)
    end = rng.randint(start + 1, len(items))
    head = [f"{k}: {v}" for k, v in items[:start]]
    block = [f"{rng.choice(('labels', 'labels', words.key(rng)))}:"] + [f"  {k}: {v}" for k, v in items[start:end]]
    tail = [f"{k}: {v}" for k, v in items[end:]]
    return "\n".join(head + block + tail if rng.random() < 0.5 else head + tail + block)


def some_keys(rng: Random, record: dict[str, str], low: int, high: int) -> list[str]:
    keys = list(record)
    return rng.sample(keys, min(len(keys), rng.randint(low, high)))


def function_name(rng: Random) -> str:
    return f"{rng.choice(words.VERBS) if rng.random() < 0.7 else words.pseudo(rng)}_{rng.choice(words.NOUNS)}"
