"""Seasons: an invented trade each, learnt from some thousand examples and then given up for the next one.

What is tuned later is one more trade. So what is learnt here is how to take one up: the form in which opstune
asks and is answered, which fields and words of it decide, and that names decide nothing and are only copied.
Every value, class, function and rule is drawn afresh each season; only the form stays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

import words
from records import compact, function_name
from worlds import say, wordings

Wordings = list[list[str]]


@dataclass(frozen=True)
class Trade:
    """One season's rules. `level`, 0 to 1, tells how much stands around what decides."""

    level: float
    functions: dict[str, list[str]]
    aliases: dict[str, list[str]]
    kinds: dict[str, Wordings]
    causes: dict[str, Wordings]
    table: dict[str, dict[str, str]]  # kind → cause → function
    live: list[str]
    calm: list[str]
    ranks: list[str]
    grades: list[str]
    impacts: list[Wordings]
    findings: list["Finding"]
    natures: dict[str, tuple[list[str], str]]
    results: dict[str, list[str]]


@dataclass(frozen=True)
class Finding:
    """What may have happened: how it is worded, and what is then said of it."""

    titles: Wordings
    symptoms: Wordings
    cause: str
    remedy: str
    lesson: str


@cache
def trade(seed: int, index: int, level: float) -> Trade:
    """The trade of a season, the same in every run of this seed."""
    rng = Random(f"season-{seed}-{index}")
    arguments = _distinct(rng, words.key, 9)
    functions = {
        name: rng.sample(arguments, rng.choice((1, 2, 2, 2, 3)))
        for name in _distinct(rng, function_name, rng.randint(8, 12))
    }
    kinds = {name: wordings(rng) for name in _distinct(rng, _camel, rng.randint(8, 18))}
    causes = {name: wordings(rng) for name in _distinct(rng, _value, rng.randint(9, 14))}
    usual = dict(zip(causes, rng.choices(list(functions), k=len(causes)), strict=True))
    other = dict(zip(causes, rng.choices(list(functions), k=len(causes)), strict=True))
    split = set(rng.sample(list(causes), len(causes) // 4))
    table = {}
    for kind in kinds:
        second = rng.random() < 0.5
        picked = rng.sample(list(causes), rng.choice((2, 3, 3)))
        table[kind] = {cause: other[cause] if second and cause in split else usual[cause] for cause in picked}
    states = _distinct(rng, _value, 3)
    live = rng.choice((1, 2))
    code = words.chars(rng, "ABCDEFGHKLMNPRSTVW", 2, 4)
    coded = rng.random() < 0.6
    return Trade(
        level=level,
        functions=functions,
        aliases={a: [a, words.key(rng)] if rng.random() < 0.4 else [a] for a in arguments},
        kinds=kinds,
        causes=causes,
        table=table,
        live=states[:live],
        calm=states[live:],
        ranks=_distinct(rng, _value, 4),
        grades=[f"{code}-{i}" if coded else words.ordinary(rng) for i in range(4)],
        impacts=[wordings(rng) for _ in range(4)],
        findings=[_finding(rng) for _ in range(rng.randint(8, 14))],
        natures={n: (_forms(rng), words.phrase(rng, 3, 6)) for n in _distinct(rng, words.ordinary, rng.randint(5, 9))},
        results={n: _forms(rng) for n in _distinct(rng, words.ordinary, 4)},
    )


def _distinct(rng: Random, make: Callable[[Random], str], count: int) -> list[str]:
    made: dict[str, None] = {}
    while len(made) < count:
        made[make(rng)] = None
    return list(made)


def _value(rng: Random) -> str:
    draw = rng.random()
    if draw < 0.6:
        return words.ordinary(rng)
    return _camel(rng) if draw < 0.7 else words.pseudo(rng)


def _camel(rng: Random) -> str:
    return "".join(words.ordinary(rng).capitalize() for _ in range(rng.choice((2, 2, 3))))


def _name(rng: Random) -> str:
    """A name, mostly a short one: what decides is learnt the faster."""
    return words.name(rng) if rng.random() < 0.25 else rng.choice((words.coded, words.dashed, words.numbered))(rng)


def _small(rng: Random) -> str:
    """A name or a number as it stands inside a sentence."""
    return rng.choice((words.coded, words.coded, words.dashed, words.digits, words.digits, words.numbered))(rng)


def _finding(rng: Random) -> Finding:
    cause, remedy = (f"{words.phrase(rng, 1, 3)} {{}} {words.phrase(rng, 0, 3)}".strip() for _ in range(2))
    return Finding(wordings(rng), wordings(rng), cause, remedy, words.phrase(rng, 2, 5))


def _forms(rng: Random) -> list[str]:
    """Three or four wordings, most with a place for a name."""
    forms = []
    for _ in range(rng.choice((3, 4))):
        parts = [words.phrase(rng, 1, 2), words.phrase(rng, 1, 2)]
        if rng.random() < 0.75:
            parts.insert(rng.randrange(3), "{}")
        forms.append(" ".join(parts))
    return forms


def _shown(task: str, fields: dict[str, str]) -> str:
    return "\n".join([f"task: {task}", *(f"{key}: {value}" for key, value in fields.items() if value)])


def call(made: Trade, rng: Random, brief: bool) -> tuple[str, str]:
    """An alert's fields → the call that its kind and reason ask for, or `none` while all is calm."""
    level = made.level
    kind = rng.choice(list(made.table))
    cause = rng.choice(list(made.table[kind]))
    calm = rng.random() < 0.35
    drill = calm and rng.random() < 0.3
    labels: dict[str, str] = {}
    filled: dict[str, str] = {}
    for function in made.table[kind].values():
        for argument in made.functions[function]:
            if argument not in filled and (not brief or rng.random() < level):
                filled[argument] = labels[rng.choice(made.aliases[argument])] = _name(rng)
    noise = {words.key(rng): _name(rng) for _ in range(rng.choice((0, 0, 1, 1, 2)))} if rng.random() < level else {}
    labels = {k: v for k, v in noise.items() if k not in labels} | labels
    names = list(labels.values()) or [_name(rng)]
    block = "".join(f"\n  {key}: {labels[key]}" for key in rng.sample(list(labels), len(labels)))
    fields = {
        "labels": block,
        "summary": say(rng, made.kinds[kind], names) if rng.random() < level else "",
        "description": say(rng, made.causes[cause], names) if rng.random() < 0.3 * level else "",
        "alert": kind,
        "severity": made.ranks[0] if drill else rng.choice(made.ranks[1:]),
        "status": rng.choice(made.calm if calm and not drill else made.live),
        "reason": cause,
    }
    function = "none" if calm else made.table[kind][cause]
    answer: dict[str, object] = {"function": function}
    if not brief:
        answer["parameters"] = {} if calm else {a: filled[a] for a in made.functions[function]}
    text = _shown("which function?" if brief else "which function fixes this alert?", fields)
    return text.replace("labels: \n", "labels:\n"), compact(answer)


def report(made: Trade, rng: Random, brief: bool) -> tuple[str, str]:
    """What happened, in words → its grade, and what follows for the name it happened to."""
    grade, found, name = rng.randrange(4), rng.choice(made.findings), _name(rng)
    low, high = ((85, 100), (31, 64), (4, 20), (0, 1))[grade]
    symptom = say(rng, found.symptoms, [name])
    fields = {
        "title": say(rng, found.titles, [name]) if rng.random() < made.level else "",
        "tier": str(rng.randint(1, 3)),
        "symptom": symptom if name in symptom else f"{symptom} {name}",
        "impact": say(rng, made.impacts[grade], [_small(rng)]),
        "affected": f"{rng.randint(low, high)}%" if rng.random() < 0.5 + made.level / 2 else "",
    }
    answer = {
        "severity": made.grades[grade],
        "root_cause": found.cause.format(name),
        "mitigation": found.remedy.format(name),
        "prevention": found.lesson,
    }
    if not brief:
        return _shown("triage this incident", fields), compact(answer)
    key = rng.choice(("severity", "severity", "prevention"))
    return _shown(f"{key} of this incident", fields), compact({key: answer[key]})


def log(made: Trade, rng: Random, brief: bool) -> tuple[str, str]:
    """A log → its first error, the nature of that error, and how much the log says came of it."""
    nature, result = rng.choice(list(made.natures)), rng.choice(list(made.results))
    forms, why = made.natures[nature]
    message = rng.choice(forms).format(_small(rng))
    lines = [(rng.choice(("INFO", "WARN", "NOTE")), words.phrase(rng, 2, 5)) for _ in range(rng.choice((1, 2, 3)))]
    lines = [(level, f"{text} {_small(rng)}" if rng.random() < 0.6 else text) for level, text in lines]
    lines = lines if rng.random() < 0.3 + made.level else lines[:1]
    traced = rng.random() < 0.4
    consequence = rng.choice(made.results[result]).format(_small(rng))
    after = [("ERROR", words.phrase(rng, 2, 5))] if rng.random() < 0.5 * made.level else []
    after.insert(rng.randint(0, len(after)), (rng.choice(("WARN", "INFO", "ERROR")), consequence))
    trace = [("", f"  {words.phrase(rng, 1, 2)}:{words.digits(rng)}")] if traced else []
    form = rng.choice(("{1}: {2}", "{1}: {2}", "{0} {1} {2}", "{0} [{1}] {2}", "[{0}] {1} - {2}"))
    at, printed = rng.randint(0, 86_000), ""
    for level, text in [*lines, ("ERROR", message), *trace, *after]:
        at += rng.randint(1, 30)
        time = f"{at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}"
        printed += "\n  " + (form.format(time, level, text) if level else text)
    answer = {
        "message": message,
        "category": nature,
        "severity": result,
        "confidence": "high" if traced else "medium",
        "reasoning": why,
    }
    if not brief:
        return f"task: find the error in this log\nlog:{printed}", compact(answer)
    key = rng.choice(("category", "severity"))
    return f"task: {key} of this log\nlog:{printed}", compact({key: answer[key]})


def example(made: Trade, rng: Random) -> tuple[str, str]:
    """One example of the season; most ask for nothing but the decision, which is what is hard to learn."""
    task = rng.choices((call, report, log), (0.48, 0.25, 0.27))[0]
    return task(made, rng, rng.random() < 1 - 0.5 * made.level)
