"""What people have said in a project, read from Label Studio and matched with the records it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from opstune import skills
from opstune.annotate.agreement import Label
from opstune.annotate.decide import Said, latest
from opstune.annotate.forms.base import Form, Given, Reading
from opstune.annotate.record import ID, RECORD, STALE, Record, Scrub
from opstune.annotate.server import Annotation, Server, Task
from opstune.examples import Example


@dataclass(frozen=True)
class Item:
    """One task that people have answered: each person's last annotation, and when every one of them was made."""

    task: Task
    record: Record
    said: Sequence[Said]
    stamps: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"task {self.task.id} ({self.record.title})"

    def labels(self) -> list[Label]:
        return [Label(self.name, one.by, one.reading.label) for one in self.said]

    def stars(self) -> list[Label]:
        return [Label(self.name, one.by, one.reading.rating) for one in self.said if one.reading.rating]


@dataclass
class Found:
    """``counts``: tasks that were only skipped, whose record changed since, or whose record is not in the store.
    ``silent`` are the ids of examples whose tasks hold no answer."""

    items: list[Item] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)


def read(server: Server, project: int, known: Mapping[str, Example], form: Form, scrub: Scrub) -> Found:
    """Every task that somebody has annotated or skipped."""
    found, people = Found(), server.people()
    for task in server.annotated(project):
        example = known.get(str(task.data.get(ID)))
        if example is None:
            found.counts["unknown"] += 1
            continue
        if not any(not annotation.cancelled for annotation in task.annotations):
            found.counts["skipped"] += 1
            found.silent.add(example.id)
            continue
        record = Record(example, scrub(example), form)
        stale = task.data.get(STALE) or {}
        fresh = [one for one in task.annotations if not one.cancelled and stale.get(str(one.id)) != one.at]
        if not fresh or task.data.get(RECORD) != record.fingerprint:
            found.counts["outdated"] += 1
            continue
        said = [_said(one, task, record, people) for one in fresh]
        item = Item(task, record, [], {str(one.id): one.at for one in fresh})
        found.unreadable += [f"{item.name}, by {one.by}: {one.reading.fault}" for one in said if one.reading.fault]
        if last := [one for one in latest(said) if not one.reading.fault]:
            found.items.append(replace(item, said=last))
    return found


def _said(annotation: Annotation, task: Task, record: Record, people: Mapping[int, str]) -> Said:
    proposal = task.data.get("answer") or {}
    reading = record.form.read(Given(annotation.result), proposal, record.clean)
    by = people.get(annotation.by) or f"user {annotation.by}"
    return Said(annotation.id, by, annotation.at, _checked(reading, record))


def _checked(reading: Reading, record: Record) -> Reading:
    """A reading whose answer the skill would not take is a fault."""
    if reading.fault or reading.answer is None:
        return reading
    try:
        skills.get(record.form.skill).answer_model.model_validate(reading.answer)
    except ValidationError as error:
        told = "; ".join(fault["msg"] for fault in error.errors(include_input=False, include_url=False))
        return Reading(fault=told)
    return reading
