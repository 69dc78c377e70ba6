"""The tasks of the corpus: each turns random material into (user message, answer).

All are generic: records, logs, tables, mappings given in the prompt, and invented worlds whose events call
invented functions. They share the shape of what the model is tuned for later and none of its content.
"""

from collections.abc import Callable
from random import Random

import words
from records import compact, function_name, lines_of, make_record, some_keys, typed
from texts import line_with, log_copy, names_in_text, reformat, stem, table
from worlds import world_call, world_report

Task = Callable[[Random], tuple[str, str]]


def pick(rng: Random) -> tuple[str, str]:
    """Named fields of a record."""
    record = make_record(rng, 3, 8)
    keys = some_keys(rng, record, 1, 5)
    ask = rng.choice(("return the fields", "pick", "give me", "extract"))
    return f"task: {ask} {', '.join(keys)}\n{lines_of(rng, record)}", compact({k: typed(record[k]) for k in keys})


def whole(rng: Random) -> tuple[str, str]:
    """The whole record as JSON, in order or shuffled: the densest lesson in looking a key up."""
    record = make_record(rng, 2, 7)
    keys = list(record)
    ask = "write the record as json."
    if rng.random() < 0.6:
        rng.shuffle(keys)
        ask = f"write the record as json in the order {', '.join(keys)}."
    return f"task: {ask}\n{lines_of(rng, record)}", compact({k: typed(record[k]) for k in keys})


def rename(rng: Random) -> tuple[str, str]:
    """Fields under new keys."""
    record = make_record(rng, 3, 7)
    keys = some_keys(rng, record, 1, 4)
    new = [words.key(rng) for _ in keys]
    pairs = ", ".join(f"{b} from {a}" for a, b in zip(keys, new, strict=True))
    answer = {b: typed(record[a]) for a, b in zip(keys, new, strict=True)}
    return f"task: build an object with {pairs}.\n{lines_of(rng, record)}", compact(answer)


def call(rng: Random) -> tuple[str, str]:
    """A call whose function and arguments the prompt names."""
    record = make_record(rng, 3, 8)
    keys, function = some_keys(rng, record, 0, 3), function_name(rng)
    if not keys:
        return f"task: call {function} without arguments.\n{lines_of(rng, record)}", compact(
            {"function": function, "parameters": {}}
        )
    answer = {"function": function, "parameters": {k: typed(record[k]) for k in keys}}
    return f"task: call {function} with {', '.join(keys)}.\n{lines_of(rng, record)}", compact(answer)


def several(rng: Random) -> tuple[str, str]:
    """One record and a few questions in turn: the prompt is paid for once, so most tokens are answers."""
    record = make_record(rng, 3, 6)
    turns = [_question(rng, record) for _ in range(rng.randint(2, 4))]
    first = f"{turns[0][0]}\n{lines_of(rng, record)}"
    join = "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}"
    return first, turns[0][1] + "".join(join.format(*turn) for turn in turns[1:])


def _question(rng: Random, record: dict[str, str]) -> tuple[str, str]:
    keys = some_keys(rng, record, 1, 4)
    values = [typed(record[k]) for k in keys]
    draw = rng.random()
    if draw < 0.4:
        return f"task: pick {', '.join(keys)}", compact(dict(zip(keys, values, strict=True)))
    if draw < 0.6:
        new = [words.key(rng) for _ in keys]
        pairs = ", ".join(f"{b} from {a}" for a, b in zip(keys, new, strict=True))
        return f"task: build an object with {pairs}.", compact(dict(zip(new, values, strict=True)))
    function = function_name(rng)
    answer = {"function": function, "parameters": dict(zip(keys, values, strict=True))}
    return f"task: call {function} with {', '.join(keys)}.", compact(answer)


def rules(rng: Random) -> tuple[str, str]:
    """A mapping given in the prompt: event -> function and its arguments; `none` where no rule fits."""
    record = make_record(rng, 2, 6)
    events = [words.camel(rng) if rng.random() < 0.6 else words.snake(rng) for _ in range(rng.randint(2, 4))]
    table = {e: (function_name(rng), some_keys(rng, record, 0, 2)) for e in events}
    event = rng.choice(events) if rng.random() < 0.85 else words.camel(rng)
    lines = [f"  {e} -> {f}({', '.join(k)})" for e, (f, k) in table.items()]
    function, keys = table.get(event, ("none", []))
    answer = {"function": function, "parameters": {k: typed(record[k]) for k in keys}}
    text = f"task: follow the rules.\nrules:\n{chr(10).join(lines)}\nevent: {event}\n{lines_of(rng, record)}"
    return text, compact(answer)


MIXTURE: tuple[tuple[Task, float], ...] = (
    (several, 0.3), (whole, 0.14), (pick, 0.07), (rename, 0.04), (call, 0.05), (rules, 0.05),
    (world_call, 0.14), (world_report, 0.03), (log_copy, 0.08), (line_with, 0.04), (reformat, 0.04),
    (table, 0.02), (stem, 0.02), (names_in_text, 0.02),
)  # fmt: skip
