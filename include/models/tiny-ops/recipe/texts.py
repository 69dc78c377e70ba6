"""Tasks on text: logs, lines, tables, names with parts, names in prose."""

import json
from random import Random

import words
from records import compact, lines_of, make_record, some_keys, typed

LEVELS = ("INFO", "INFO", "DEBUG", "NOTE", "WARNING")


def _heads(rng: Random, levels: list[str]) -> list[str]:
    """What stands before each message of a log: time, level, source, in one style."""
    style = rng.randrange(5)
    heads = []
    for level in levels:
        source, at = words.word(rng), words.timestamp(rng)
        place = f"{{{source}.py:{rng.randint(1, 900)}}}"
        time = at[11:19]
        styles = (
            f"{at} {level} {source}:",
            f"[{at}] {place} {level} -",
            f"{level}:",
            f"{time} {level}",
            f"{time} [{level}]",
        )
        heads.append(styles[style])
    return heads


def log_copy(rng: Random) -> tuple[str, str]:
    """The message of the first ERROR line, word for word; sometimes with a field."""
    count = rng.randint(2, 6)
    i = rng.randrange(count)
    levels = (
        [rng.choice(LEVELS) for _ in range(i)]
        + ["ERROR"]
        + [rng.choice((*LEVELS, "ERROR", "ERROR")) for _ in range(count - i - 1)]
    )
    messages = [words.sentence(rng, 3, 12) for _ in range(count)]
    log = "\n".join(f"  {h} {m}" for h, m in zip(_heads(rng, levels), messages, strict=True))
    if rng.random() < 0.6:
        return f"task: quote the first error\nlog:\n{log}", compact({"message": messages[i]})
    extra = make_record(rng, 1, 3)
    key = rng.choice(list(extra))
    text = f"task: quote the first error and give {key}\n{lines_of(rng, extra)}\nlog:\n{log}"
    return text, compact({"message": messages[i], key: typed(extra[key])})


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
    keys = list(record) if rng.random() < 0.5 else some_keys(rng, record, 1, 3)
    ask = "parse the text" if len(keys) == len(record) else f"parse {', '.join(keys)}"
    return f"task: {ask}.\ntext: {text}", compact({k: typed(record[k]) for k in keys})


def table(rng: Random) -> tuple[str, str]:
    """A cell or a row of a table."""
    columns = list(dict.fromkeys(words.key(rng) for _ in range(rng.randint(2, 4))))
    rows = [[words.name(rng) for _ in columns] for _ in range(rng.randint(2, 4))]
    row = rng.choice(rows)
    text = "\n".join(" | ".join(r) for r in [columns, *rows])
    keys = columns[1:] or columns
    return f"task: find the row of {row[0]}.\n{text}", compact({k: typed(row[columns.index(k)]) for k in keys})


def stem(rng: Random) -> tuple[str, str]:
    """A name without its last parts, the last part alone, or what follows a slash."""
    name = rng.choice((words.suffixed, words.numbered, words.image, words.path))(rng)
    sign = "-" if "-" in name and "/" not in name else "/"
    parts = name.split(sign)
    cut = rng.randint(1, max(1, len(parts) - 1))
    kept = sign.join(parts[:-cut]) or parts[-1]
    record = make_record(rng, 0, 3) | {"name": name}
    if rng.random() < 0.3:
        return f"task: give the last part of name.\n{lines_of(rng, record)}", compact({"last": parts[-1]})
    return f"task: drop the last {cut} parts of name.\n{lines_of(rng, record)}", compact({"name": kept})


def names_in_text(rng: Random) -> tuple[str, str]:
    """A marked name inside prose."""
    mark, value = words.key(rng), words.name(rng)
    left, right = words.sentence(rng, 2, 8), words.sentence(rng, 2, 8)
    sign = rng.choice((" {} {} ", " {}={} ", " {} '{}' ", " {}: {} "))
    return f"task: find the {mark} in the text.\ntext: {left}{sign.format(mark, value)}{right}", compact(
        {mark: typed(value)}
    )
