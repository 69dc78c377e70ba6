"""Invented worlds: what happens in them, and what is then called, is fixed, to be learnt by heart."""

from functools import cache
from random import Random
from typing import Any

import words
from records import compact, function_name

WORLD_COUNT = 10


@cache
def world(index: int) -> dict[str, Any]:
    """One invented world, the same in every run: its calls are to be learnt by heart, its names are not.

    As in any trade, neither the event nor its reason alone tells the call: the table of both does; some
    reasons mean that nothing is to be done, and a field is not always called like the argument it fills.
    """
    rng = Random(f"world-{index}")
    functions = {}
    for _ in range(7):
        arguments = list(dict.fromkeys(words.key(rng) for _ in range(rng.choice((1, 2, 2, 3)))))
        functions[function_name(rng)] = {a: (a, words.key(rng)) if rng.random() < 0.4 else (a,) for a in arguments}
    reasons = [wordings(rng) for _ in range(8)]
    events = {}
    for _ in range(6):
        causes = rng.sample(range(6), 3)  # the last two reasons mean: do nothing
        events[words.camel(rng)] = (wordings(rng), {c: rng.choice(list(functions)) for c in causes})
    grades = [f"{words.key(rng)}-{i}" for i in range(4)]
    remedies = [words.phrase(rng, 3, 6) for _ in reasons]
    causes_named = [words.phrase(rng, 2, 5) for _ in reasons]
    return {
        "functions": functions,
        "reasons": reasons,
        "events": events,
        "grades": grades,
        "remedies": remedies,
        "causes": causes_named,
    }


def wordings(rng: Random) -> list[list[str]]:
    """A phrase as three parts, each with a few wordings; `{}` stands for a name or a number."""
    parts = [[words.phrase(rng, 1, 3) for _ in range(rng.choice((2, 3, 4)))] for _ in range(3)]
    parts.insert(rng.randrange(4), ["{}"])
    return parts


def say(rng: Random, wordings: list[list[str]], names: list[str]) -> str:
    text = " ".join(rng.choice(part) for part in wordings)
    return text.replace(
        "{}",
        rng.choice(names) if rng.random() < 0.6 else rng.choice((words.digits, words.quantity, words.dashed))(rng),
    )


def _event(rng: Random) -> tuple[int, str, int, dict[str, str], str]:
    """(world, function or `none`, reason, what fills its arguments, text) of a random event."""
    index = rng.randrange(WORLD_COUNT)
    made = world(index)
    event = rng.choice(list(made["events"]))
    symptom, table = made["events"][event]
    reason = rng.choice([*table, *table, 6, 7])
    fields: dict[str, str] = {}
    filled: dict[str, str] = {}
    for arguments in (made["functions"][f] for f in table.values()):
        for argument, keys in arguments.items():
            if argument not in filled:
                filled[argument] = fields[rng.choice(keys)] = words.name(rng)
    noise = {words.key(rng): words.name(rng) for _ in range(rng.choice((0, 1, 2)))}
    fields = {k: v for k, v in noise.items() if k not in fields} | fields
    labels = rng.sample(list(fields), len(fields))
    names = list(fields.values())
    texts = [say(rng, symptom, names), say(rng, made["reasons"][reason], names)]
    body = rng.choice(
        (
            f"summary: {texts[0]}\ndescription: {texts[1]}",
            f"summary: {texts[0]}: {texts[1]}",
            f"title: {texts[1]}\ntext: {texts[0]}",
        )
    )
    status = f"{rng.choice(('state', 'status', 'kind'))}: {words.ordinary(rng)}\n" if rng.random() < 0.5 else ""
    text = f"event: {event}\n{status}{body}\nlabels:\n" + "\n".join(f"  {k}: {fields[k]}" for k in labels)
    return index, table.get(reason, "none"), reason, filled, text


def world_call(rng: Random) -> tuple[str, str]:
    """An event of an invented world → its function and arguments, or `none`."""
    index, function, _, filled, text = _event(rng)
    arguments = world(index)["functions"].get(function, {})
    answer = {"function": function, "parameters": {a: filled[a] for a in arguments}}
    return f"task: which call fits this event of world {index}?\n{text}", compact(answer)


def world_report(rng: Random) -> tuple[str, str]:
    """An event of an invented world → grade, cause and remedy."""
    index, _, reason, _, text = _event(rng)
    made = world(index)
    answer = {
        "grade": made["grades"][reason // 2],
        "cause": made["causes"][reason],
        "remedy": made["remedies"][reason],
    }
    return f"task: report on this event of world {index}\n{text}", compact(answer)
