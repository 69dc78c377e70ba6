"""The tasks of the corpus: each turns random material into (user message, answer).

All are generic: records, logs, tables, mappings given in the prompt, and invented worlds whose events call invented
functions. They share the shape of what the model is tuned for later and none of its content.
"""

import json
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import words

Task = Callable[[Random], tuple[str, str]]
WORLD_COUNT = 10


def compact(value: Any) -> str:
    """JSON without spaces, as every answer is written."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _typed(value: str) -> Any:
    """An integer for plain digits, else the text: one rule for every task, so that it can be learnt."""
    return int(value) if value.isdigit() and (value == "0" or value[0] != "0") else value


def _value(rng: Random) -> str:
    return words.phrase(rng, 2, 5) if rng.random() < 0.08 else words.name(rng)


def _record(rng: Random, low: int, high: int) -> dict[str, str]:
    """Random fields. Some values are relatives of others (a prefix, one part changed): the wrong field must tempt."""
    record: dict[str, str] = {}
    for _ in range(rng.randint(low, high)):
        value = _value(rng)
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


def _lines(rng: Random, record: dict[str, str]) -> str:
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


def _some(rng: Random, record: dict[str, str], low: int, high: int) -> list[str]:
    keys = list(record)
    return rng.sample(keys, min(len(keys), rng.randint(low, high)))


def _function(rng: Random) -> str:
    return f"{rng.choice(words.VERBS) if rng.random() < 0.7 else words.pseudo(rng)}_{rng.choice(words.NOUNS)}"


def pick(rng: Random) -> tuple[str, str]:
    """Named fields of a record."""
    record = _record(rng, 3, 8)
    keys = _some(rng, record, 1, 5)
    ask = rng.choice(("return the fields", "pick", "give me", "extract"))
    return f"task: {ask} {', '.join(keys)}\n{_lines(rng, record)}", compact({k: _typed(record[k]) for k in keys})


def whole(rng: Random) -> tuple[str, str]:
    """The whole record as JSON, in order or shuffled: the densest lesson in looking a key up."""
    record = _record(rng, 2, 7)
    keys = list(record)
    ask = "write the record as json."
    if rng.random() < 0.6:
        rng.shuffle(keys)
        ask = f"write the record as json in the order {', '.join(keys)}."
    return f"task: {ask}\n{_lines(rng, record)}", compact({k: _typed(record[k]) for k in keys})


def rename(rng: Random) -> tuple[str, str]:
    """Fields under new keys."""
    record = _record(rng, 3, 7)
    keys = _some(rng, record, 1, 4)
    new = [words.key(rng) for _ in keys]
    pairs = ", ".join(f"{b} from {a}" for a, b in zip(keys, new, strict=True))
    answer = {b: _typed(record[a]) for a, b in zip(keys, new, strict=True)}
    return f"task: build an object with {pairs}.\n{_lines(rng, record)}", compact(answer)


def call(rng: Random) -> tuple[str, str]:
    """A call whose function and arguments the prompt names."""
    record = _record(rng, 3, 8)
    keys, function = _some(rng, record, 0, 3), _function(rng)
    if not keys:
        return f"task: call {function} without arguments.\n{_lines(rng, record)}", compact({"function": function, "parameters": {}})
    answer = {"function": function, "parameters": {k: _typed(record[k]) for k in keys}}
    return f"task: call {function} with {', '.join(keys)}.\n{_lines(rng, record)}", compact(answer)


def several(rng: Random) -> tuple[str, str]:
    """One record and a few questions in turn: the prompt is paid for once, so most tokens are answers."""
    record = _record(rng, 3, 6)
    turns = [_question(rng, record) for _ in range(rng.randint(2, 4))]
    first = f"{turns[0][0]}\n{_lines(rng, record)}"
    join = "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}"
    return first, turns[0][1] + "".join(join.format(*turn) for turn in turns[1:])


def _question(rng: Random, record: dict[str, str]) -> tuple[str, str]:
    keys = _some(rng, record, 1, 4)
    values = [_typed(record[k]) for k in keys]
    draw = rng.random()
    if draw < 0.4:
        return f"task: pick {', '.join(keys)}", compact(dict(zip(keys, values, strict=True)))
    if draw < 0.6:
        new = [words.key(rng) for _ in keys]
        pairs = ", ".join(f"{b} from {a}" for a, b in zip(keys, new, strict=True))
        return f"task: build an object with {pairs}.", compact(dict(zip(new, values, strict=True)))
    function = _function(rng)
    answer = {"function": function, "parameters": dict(zip(keys, values, strict=True))}
    return f"task: call {function} with {', '.join(keys)}.", compact(answer)


def rules(rng: Random) -> tuple[str, str]:
    """A mapping given in the prompt: event -> function and its arguments; `none` where no rule fits."""
    record = _record(rng, 2, 6)
    events = [words.camel(rng) if rng.random() < 0.6 else words.snake(rng) for _ in range(rng.randint(2, 4))]
    table = {e: (_function(rng), _some(rng, record, 0, 2)) for e in events}
    event = rng.choice(events) if rng.random() < 0.85 else words.camel(rng)
    lines = [f"  {e} -> {f}({', '.join(k)})" for e, (f, k) in table.items()]
    function, keys = table.get(event, ("none", []))
    answer = {"function": function, "parameters": {k: _typed(record[k]) for k in keys}}
    text = f"task: follow the rules.\nrules:\n{chr(10).join(lines)}\nevent: {event}\n{_lines(rng, record)}"
    return text, compact(answer)


@cache
def world(index: int) -> dict[str, Any]:
    """One invented world, the same in every run: its calls are to be learnt by heart, its names are not.

    As in any trade, neither the event nor its reason alone tells the call: the table of both does; some reasons mean
    that nothing is to be done, and a field is not always called like the argument it fills.
    """
    rng = Random(f"world-{index}")
    functions = {}
    for _ in range(7):
        arguments = list(dict.fromkeys(words.key(rng) for _ in range(rng.choice((1, 2, 2, 3)))))
        functions[_function(rng)] = {a: (a, words.key(rng)) if rng.random() < 0.4 else (a,) for a in arguments}
    reasons = [_wordings(rng) for _ in range(8)]
    events = {}
    for _ in range(6):
        causes = rng.sample(range(6), 3)  # the last two reasons mean: do nothing
        events[words.camel(rng)] = (_wordings(rng), {c: rng.choice(list(functions)) for c in causes})
    grades = [f"{words.key(rng)}-{i}" for i in range(4)]
    remedies = [words.phrase(rng, 3, 6) for _ in reasons]
    causes_named = [words.phrase(rng, 2, 5) for _ in reasons]
    return {"functions": functions, "reasons": reasons, "events": events, "grades": grades, "remedies": remedies, "causes": causes_named}


def _wordings(rng: Random) -> list[list[str]]:
    """A phrase as three parts, each with a few wordings; `{}` stands for a name or a number."""
    parts = [[words.phrase(rng, 1, 3) for _ in range(rng.choice((2, 3, 4)))] for _ in range(3)]
    parts.insert(rng.randrange(4), ["{}"])
    return parts


def _say(rng: Random, wordings: list[list[str]], names: list[str]) -> str:
    text = " ".join(rng.choice(part) for part in wordings)
    return text.replace("{}", rng.choice(names) if rng.random() < 0.6 else rng.choice((words.digits, words.quantity, words.dashed))(rng))


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
    texts = [_say(rng, symptom, names), _say(rng, made["reasons"][reason], names)]
    body = rng.choice((f"summary: {texts[0]}\ndescription: {texts[1]}", f"summary: {texts[0]}: {texts[1]}", f"title: {texts[1]}\ntext: {texts[0]}"))
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
    answer = {"grade": made["grades"][reason // 2], "cause": made["causes"][reason], "remedy": made["remedies"][reason]}
    return f"task: report on this event of world {index}\n{text}", compact(answer)


LEVELS = ("INFO", "INFO", "DEBUG", "NOTE", "WARNING")


def _heads(rng: Random, levels: list[str]) -> list[str]:
    """What stands before each message of a log: time, level, source, in one style."""
    style = rng.randrange(5)
    heads = []
    for level in levels:
        source, at = words.word(rng), words.timestamp(rng)
        styles = (f"{at} {level} {source}:", f"[{at}] {{{source}.py:{rng.randint(1, 900)}}} {level} -", f"{level}:",
                  f"{at[11:19]} {level}", f"{at[11:19]} [{level}]")  # fmt: skip
        heads.append(styles[style])
    return heads


def log_copy(rng: Random) -> tuple[str, str]:
    """The message of the first ERROR line, word for word; with a field, or with a class that goes with its words."""
    count = rng.randint(2, 6)
    i = rng.randrange(count)
    levels = [rng.choice(LEVELS) for _ in range(i)] + ["ERROR"] + [rng.choice((*LEVELS, "ERROR", "ERROR")) for _ in range(count - i - 1)]
    messages = [words.sentence(rng, 3, 12) for _ in range(count)]
    log = "\n".join(f"  {h} {m}" for h, m in zip(_heads(rng, levels), messages, strict=True))
    if rng.random() < 0.6:
        return f"task: quote the first error\nlog:\n{log}", compact({"message": messages[i]})
    extra = _record(rng, 1, 3)
    key = rng.choice(list(extra))
    text = f"task: quote the first error and give {key}\n{_lines(rng, extra)}\nlog:\n{log}"
    return text, compact({"message": messages[i], key: _typed(extra[key])})


def line_with(rng: Random) -> tuple[str, str]:
    """The line that holds a given word, or the first or last one."""
    lines = [words.sentence(rng, 4, 12) for _ in range(rng.randint(2, 5))]
    draw = rng.random()
    i = rng.randrange(len(lines))
    ask = f"the line with {rng.choice(lines[i].split(' '))}"
    if draw < 0.2:
        i, ask = 0, "the first line"
    elif draw < 0.45:
        i, ask = len(lines) - 1, "the last line"
    text = "\n".join(f"  {line}" for line in lines)
    return f"task: copy {ask}.\ntext:\n{text}", compact({"line": lines[i]})


def reformat(rng: Random) -> tuple[str, str]:
    """`key=value` runs or JSON → a JSON object, whole or in part."""
    record = {words.key(rng): words.name(rng) for _ in range(rng.randint(2, 6))}
    joined = rng.choice((" ", ", ", "; ", "\n")).join(f"{k}={v}" for k, v in record.items())
    text = joined if rng.random() < 0.6 else json.dumps(record)
    keys = list(record) if rng.random() < 0.5 else _some(rng, record, 1, 3)
    ask = "parse the text" if len(keys) == len(record) else f"parse {', '.join(keys)}"
    return f"task: {ask}.\ntext: {text}", compact({k: _typed(record[k]) for k in keys})


def table(rng: Random) -> tuple[str, str]:
    """A cell or a row of a table."""
    columns = list(dict.fromkeys(words.key(rng) for _ in range(rng.randint(2, 4))))
    rows = [[words.name(rng) for _ in columns] for _ in range(rng.randint(2, 4))]
    row = rng.choice(rows)
    text = "\n".join(" | ".join(r) for r in [columns, *rows])
    keys = columns[1:] or columns
    return f"task: find the row of {row[0]}.\n{text}", compact({k: _typed(row[columns.index(k)]) for k in keys})


def stem(rng: Random) -> tuple[str, str]:
    """A name without its last parts, the last part alone, or what follows a slash."""
    name = rng.choice((words.suffixed, words.numbered, words.image, words.path))(rng)
    sign = "-" if "-" in name and "/" not in name else "/"
    parts = name.split(sign)
    cut = rng.randint(1, max(1, len(parts) - 1))
    kept = sign.join(parts[:-cut]) or parts[-1]
    record = _record(rng, 0, 3) | {"name": name}
    if rng.random() < 0.3:
        return f"task: give the last part of name.\n{_lines(rng, record)}", compact({"last": parts[-1]})
    return f"task: drop the last {cut} parts of name.\n{_lines(rng, record)}", compact({"name": kept})


def names_in_text(rng: Random) -> tuple[str, str]:
    """A marked name inside prose."""
    mark, value = words.key(rng), words.name(rng)
    left, right = words.sentence(rng, 2, 8), words.sentence(rng, 2, 8)
    sign = rng.choice((" {} {} ", " {}={} ", " {} '{}' ", " {}: {} "))
    return f"task: find the {mark} in the text.\ntext: {left}{sign.format(mark, value)}{right}", compact({mark: _typed(value)})


MIXTURE: tuple[tuple[Task, float], ...] = (
    (several, 0.3), (whole, 0.14), (pick, 0.07), (rename, 0.04), (call, 0.05), (rules, 0.05), (world_call, 0.14),
    (world_report, 0.03), (log_copy, 0.08), (line_with, 0.04), (reformat, 0.04), (table, 0.02), (stem, 0.02),
    (names_in_text, 0.02),
)  # fmt: skip
