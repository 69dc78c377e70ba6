"""From the example store to Label Studio: what needs a human becomes a task, a changed record changes its task."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune import skills
from opstune.annotate import choose, forms, projects, rows
from opstune.annotate.asking import guesses
from opstune.annotate.choose import Guess, Model, Need
from opstune.annotate.locking import locked
from opstune.annotate.record import BY_RECORD, ID, LOOK_AGAIN, NOTICE, RECORD, STALE, Record, Scrub
from opstune.annotate.server import MODEL_VERSION, Annotation, Server, Task
from opstune.annotated import SOURCE
from opstune.examples import Example
from opstune.settings import AnnotateSettings, Connection

log = logging.getLogger(__name__)

#: Tasks in one request, small enough for the time limit of one.
_BATCH = 100
#: Cases that a model is asked about between two looks at the clock.
_ASKED_AT_ONCE = 10


class PushReport(BaseModel):
    """What one push did. ``waiting`` need a human but are not asked yet, because ``most_open`` tasks stand open;
    ``held`` changed after they were annotated and wait for the pull; ``why`` counts the new ones by reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str
    new: int = 0
    changed: int = 0
    look_again: int = 0
    held: int = 0
    doubles_removed: int = 0
    waiting: int = 0
    open: int = 0
    why: dict[str, int] = {}
    off: str = ""
    note: str = ""


@dataclass
class _Push:
    """One push of one project: what it works on, what it counts."""

    project: str
    server: Server
    settings: AnnotateSettings
    scrub: Scrub
    said: Mapping[str, Example]
    counts: Counter[str] = field(default_factory=Counter)

    def record(self, example: Example) -> Record | None:
        """The example as a task shows it, or none where its context is not its skill's: the dataset refuses those."""
        try:
            skills.get(example.skill).context_model.model_validate(example.context)
        except ValidationError:
            return None
        return Record(example, self.scrub(example), forms.get(self.project))


def push(
    project: str,
    examples: Sequence[Example],
    connection: Connection,
    settings: AnnotateSettings,
    folder: Path,
    scrub: Scrub,
    model: Model | None = None,
) -> PushReport:
    """Ask people about the examples that need them, and tell them where a record changed.

    ``examples`` is what the store holds of the project's skill, annotations among them. ``folder``
    keeps locks and what the model was asked about. Run twice, the second asks nothing.

    Raises:
        ConfigError: a labelling page or projects.yaml is wrong, or Label Studio has nothing at that address.
        AccessDenied: it refuses the token.
        ServiceDown: it does not answer; what was pushed stays, the next run goes on.
        Throttled: it asks to slow down.
    """
    mine = {example.id: example for example in examples if example.source != SOURCE}
    with locked(folder, project), Server(connection, settings.patience) as server:
        made, note = projects.ensure(server, project, settings)
        work = _Push(project, server, settings, scrub, rows.standing(examples, project))
        tasks = _single(work, server.tasks(made.id))
        for example_id, task in tasks.items():
            if example := mine.get(example_id):
                _update(work, task, example)
        unasked = [example for example in mine.values() if example.id not in tasks and not _answered(work, example)]
        standing = sum(not task.done for task in tasks.values())
        room = max(settings.most_open - standing, 0)
        asked = guesses(unasked, work.record, model, settings, room, folder / f"{project}.compared.json")
        wanted = choose.needs(unasked, asked.restored, settings)
        new = _add(work, made.id, wanted, asked.guesses, model.name if model else "", room)
    report = PushReport(
        project=project,
        new=sum(new.values()),
        waiting=len(wanted) - sum(new.values()) - work.counts["unusable"],
        open=standing + sum(new.values()) + work.counts["reopened"],
        why=dict(new),
        note=note,
        **{name: work.counts[name] for name in ("changed", "look_again", "held", "doubles_removed")},
    )
    log.info("%s: %s", project, told(report))
    return report


def told(report: PushReport) -> str:
    """One line for a log."""
    if report.off:
        return report.off
    why = f" ({', '.join(f'{count} {reason}' for reason, count in report.why.items())})" if report.why else ""
    words = [f"{report.new} new tasks{why}", f"{report.changed} changed", f"{report.open} open"]
    more = {
        "to be looked at again": report.look_again,
        "changed after they were annotated and wait for the pull": report.held,
        "that wait until fewer are open": report.waiting,
        "doubles removed": report.doubles_removed,
    }
    return ", ".join([*words, *(f"{count} {what}" for what, count in more.items() if count)])


def _single(work: _Push, tasks: Sequence[Task]) -> dict[str, Task]:
    """The task of each example. Label Studio has no unique key: an import whose answer was lost and that was repeated
    leaves doubles; of these the annotated one stays, else the first."""
    by_id: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if example_id := task.data.get(ID):
            by_id[str(example_id)].append(task)
    for same in by_id.values():
        same.sort(key=lambda task: (not task.annotated, task.id))
        for double in [task for task in same[1:] if not task.annotated]:
            work.server.remove(double.id)
            work.counts["doubles_removed"] += 1
    return {example_id: same[0] for example_id, same in by_id.items()}


def _update(work: _Push, task: Task, example: Example) -> None:
    """Bring a task up to its record. What people said about the record as it was stays, marked for another look."""
    record = work.record(example)
    if record is None:
        return
    if task.data.get(RECORD) == record.fingerprint:
        _end_second_look(work, task)
        return
    data = record.task(record.clean.answer, BY_RECORD if record.clean.answer else "", str(task.data.get("why", "")))
    if not task.annotated:
        work.server.change(task.id, data)
        work.server.predict(task.id, record.form.prefilled(record.clean.answer, record.clean))
        work.counts["changed"] += 1
        return
    annotations = work.server.annotations(task.id)
    stamps = _stamps(annotations)
    fresh = {name: at for name, at in stamps.items() if (task.data.get(STALE) or {}).get(name) != at}
    if fresh and fresh != rows.stamps_of(work.said.get(example.id)):
        work.counts["held"] += 1
        return
    asked = len({annotation.by for annotation in annotations}) + 1
    everyone = {str(annotation.id): annotation.at for annotation in annotations}
    work.server.change(task.id, {**data, NOTICE: LOOK_AGAIN, STALE: everyone}, overlap=asked, done=False)
    work.counts["look_again"] += 1
    work.counts["reopened"] += task.done


def _end_second_look(work: _Push, task: Task) -> None:
    """Take the notice off a task that somebody has looked at again since the record changed."""
    if not task.data.get(NOTICE):
        return
    annotations = work.server.annotations(task.id)
    stale = task.data.get(STALE) or {}
    if any(stale.get(str(annotation.id)) != annotation.at for annotation in annotations):
        people = len({annotation.by for annotation in annotations})
        work.server.change(task.id, {**task.data, NOTICE: ""}, overlap=people, done=True)


def _stamps(annotations: Sequence[Annotation]) -> dict[str, str]:
    return {str(annotation.id): annotation.at for annotation in annotations if not annotation.cancelled}


def _answered(work: _Push, example: Example) -> bool:
    """Whether people have answered this very record before, in a project that has lost its task."""
    row = work.said.get(example.id)
    return row is not None and row.human_validated and row.context == example.context


def _add(
    work: _Push, project: int, wanted: Sequence[Need], answers: Mapping[str, Guess], model: str, room: int
) -> Counter[str]:
    """Import tasks while there is room; returns how many by reason."""
    new: Counter[str] = Counter()
    batch: list[dict[str, Any]] = []
    for need in wanted:
        if sum(new.values()) >= room:
            break
        record = work.record(need.example)
        if record is None:
            work.counts["unusable"] += 1
            continue
        batch.append(_task(record, need, answers.get(need.example.id), model))
        new[need.why] += 1
        if len(batch) == _BATCH:
            work.server.add(project, batch)
            batch = []
    if batch:
        work.server.add(project, batch)
    return new


def _task(record: Record, need: Need, guess: Guess | None, model: str) -> dict[str, Any]:
    """A task with the answer that is shown: the model's where there is one, else the record's own."""
    own = record.clean.answer
    answer, by = (guess.answer, model) if guess else (own, BY_RECORD if own else "")
    data = record.task(answer, by, need.why)
    result = record.form.prefilled(answer, record.clean)
    if not result:
        return {"data": data}
    score = {"score": guess.confidence} if guess and guess.confidence is not None else {}
    return {"data": data, "predictions": [{"model_version": MODEL_VERSION, "result": result, **score}]}
