"""Task logs: the line that tells the error, among warnings before it and its echoes after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from opstune.simulate.alerts import numbers
from opstune.simulate.names import Names
from opstune.simulate.words import expand


@dataclass(frozen=True)
class TaskLog:
    """A failed task's log, and what its owner wrote about it."""

    task: str
    log: str
    message: str
    category: str
    severity: str
    confidence: str
    reasoning: str


#: Nature of the error → how programs word it.
_ERRORS = {
    "code": (
        "[TypeError in {verb}_{word} line {rev}|KeyError in {verb}_{word} line {rev}|"
        "AttributeError in {verb}_{word} line {rev}|assertion failed in {verb}_{word} line {rev}]"
    ),
    "configuration": (
        "[unknown option {word}.{verb} in settings|missing setting {word}_{verb}|invalid setting {word}_{verb}|"
        "config file {word}.yaml not found]"
    ),
    "data": (
        "[column {word} has {n} nulls|duplicate key {rev} in table {word}|table {word} is empty|"
        "row {rev} of table {word} has {n} fields]"
    ),
    "dependency": (
        "[no module named {word}|package {word} {n}.{mins} not found|version conflict in package {word}|"
        "package {word} needs {verb} {n}]"
    ),
    "network": (
        "[connection to {host} refused|connection reset by {host}|cannot resolve host {host}|no route to {host}]"
    ),
    "permission": (
        "[permission denied on {word}|access to {word} denied|role {word} may not {verb}|access to {host} forbidden]"
    ),
    "resource": (
        "[out of memory after {gib} GiB|no space left on {word}|out of disk space on {word}|"
        "memory limit of {gib} GiB exceeded]"
    ),
    "timeout": (
        "[{task} timed out after {mins} minutes|query on {word} timed out|no answer from {host} in {mins}s|"
        "deadline of {mins} minutes exceeded]"
    ),
}
#: Stated consequence → severity.
_CONSEQUENCES = {
    "critical": "[{word} data was lost for good|private data was published|all deliveries are stopped]",
    "high": "[{n} downstream tasks are blocked|customers wait for {word}|the deadline of {word} is missed]",
    "medium": "[next attempt in {mins} minutes|{word} is delayed by {mins} minutes|a rerun is scheduled for {clock}]",
    "low": "[{word} is optional, skipped|only a test run|result is unaffected]",
}
_START = (
    "[starting {task}|run {rev} of {task}|{task} started|begin {task} attempt {n}|loading {word} for {task}|"
    "queued {task} at priority {n}]"
)
_STEP = (
    "[read {rev} rows of {word}|step {n} done in {mins}s|{verb} {word} finished|connected to {host}|using {gib} "
    "workers|"
    "wrote part {n} of {mins}|fetched {word} {rev}|cache of {word} is warm]"
)
_WARNING = (
    "[option {word} is deprecated|slow answer from {host}: {mins}s|disk of {word} at {mins}%|{n} rows of {word} "
    "look odd|"
    "retry {n} of 9 for {word} succeeded|memory at {mins}%|package {word} has a newer version|token of {word} "
    "expires in {n} days]"
)
_ECHO = (
    "[task failed|{task} exited with code {n}|marking {task} as failed|traceback follows the first error|"
    "aborting {task}|"
    "run {rev} ended in state failed|pipeline stopped at step {n}|cleaning up after failure]"
)
_TRACE = "[  at {verb}_{word} line {rev}|  in {word}.py line {rev}|  {verb}.{word}:{rev}]"
_REASONS = {
    "code": "a fault in the program itself",
    "configuration": "a setting is missing or wrong",
    "data": "the input is not as expected",
    "dependency": "a package or image does not fit",
    "network": "a peer cannot be reached",
    "permission": "access was refused",
    "resource": "memory or space ran out",
    "timeout": "it took too long",
}
_WORD_LIST = (
    "order parcel ticket letter meter route map list sample record member region plan picture paper journal "
    "message price "
    "stock guest room invoice claim photo score fee visit mail badge form"
)
_WORDS = tuple(_WORD_LIST.split())
_VERB_LIST = "merge split load clean rank score join pack match align sort count draw trim check group"
_VERBS = tuple(_VERB_LIST.split())
#: Line formats: airflow-like, batch, build.
_FORMATS = (
    "{day} {time} {level} {text}",
    "[{day}T{time}] {level} - {text}",
    "{time} {level} {text}",
    "{level}: {text}",
    "{time} [{level}] {text}",
)
_FORMAT_WEIGHTS = (1, 1, 3, 9, 2)


def draw(rng: Random, names: Names, at: datetime) -> TaskLog:
    """A log of four to seven lines that ends about ``at``."""
    task = f"{rng.choice(_VERBS)}-{names.service}"
    slots = {
        **numbers(rng),
        "task": task,
        "word": f"{rng.choice(_WORDS)}",
        "verb": rng.choice(_VERBS),
        "host": names.coded("host", "db", "api", "store"),
    }
    category, severity = rng.choice(tuple(_ERRORS)), rng.choices(tuple(_CONSEQUENCES), (15, 30, 35, 20))[0]
    message = expand(rng, _ERRORS[category], slots)
    lines = [("INFO", _say(rng, _START, slots))]
    for _ in range(rng.choice((1, 1, 1, 2))):
        level, template = rng.choice((("INFO", _STEP), ("WARN", _WARNING), ("WARN", _WARNING)))
        lines.append((level, _say(rng, template, slots)))
    lines.append(("ERROR", message))
    traced = rng.random() < 0.4
    if traced:
        lines.append(("", "  " + _say(rng, _TRACE, slots)))
    after = [("ERROR", _say(rng, _ECHO, slots))] if rng.random() < 0.5 else []
    consequence = (rng.choice(("WARN", "INFO", "ERROR")), _say(rng, _CONSEQUENCES[severity], slots))
    after.insert(rng.randint(0, len(after)), consequence)
    return TaskLog(
        task=task,
        log=_printed(rng, lines + after, at),
        message=message,
        category=category,
        severity=severity,
        confidence="high" if traced else "medium",
        reasoning=_REASONS[category],
    )


def _say(rng: Random, template: str, slots: Mapping[str, object]) -> str:
    """A line with numbers and words of its own, so that it does not repeat the error's."""
    own = {**numbers(rng), "word": rng.choice(_WORDS), "verb": rng.choice(_VERBS)}
    return expand(rng, template, {**slots, **own})


def _printed(rng: Random, texts: list[tuple[str, str]], at: datetime) -> str:
    form = rng.choices(_FORMATS, _FORMAT_WEIGHTS)[0]
    moment, lines = at - timedelta(seconds=rng.randint(40, 400)), []
    for level, text in texts:
        moment += timedelta(seconds=rng.randint(1, 35))
        line = form.format(day=f"{moment:%Y-%m-%d}", time=f"{moment:%H:%M:%S}", level=level, text=text)
        lines.append(line if level else text)
    return "\n".join(lines)
