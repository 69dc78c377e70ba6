"""From Label Studio to the example store: what people have decided, once they agree well enough."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from opstune.annotate import forms, projects, rows, summary
from opstune.annotate.agreement import Agreement, agreement
from opstune.annotate.decide import Decision, decide
from opstune.annotate.locking import locked
from opstune.annotate.reading import Found, Item, read
from opstune.annotate.record import ID, Record, Scrub
from opstune.annotate.server import Server
from opstune.annotated import SOURCE
from opstune.examples import Example
from opstune.settings import AnnotateSettings, Connection
from opstune.store import ExampleStore

log = logging.getLogger(__name__)

#: Differences and unreadable annotations that a log line each is spent on; the report has them all.
_TOLD = 10


class PullReport(BaseModel):
    """What one pull found and did.

    ``tasks`` hold an answer; ``answered``, ``cannot_say`` and ``undecided`` count what is new or changed since the
    last pull; ``skipped`` are tasks that people only skipped, ``outdated`` those whose record changed after the
    annotation, ``unknown`` those that are about no example of the store, ``withdrawn`` answers that people took back.
    ``waits`` says why nothing was taken, and is empty otherwise. ``differ`` and ``unreadable`` say on what people
    disagree and which annotation is no answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str
    tasks: int = 0
    answered: int = 0
    cannot_say: int = 0
    undecided: int = 0
    withdrawn: int = 0
    skipped: int = 0
    outdated: int = 0
    unknown: int = 0
    waits: str = ""
    differ: list[str] = []
    unreadable: list[str] = []
    off: str = ""


def pull(
    project: str,
    store: ExampleStore,
    connection: Connection,
    settings: AnnotateSettings,
    folder: Path,
    scrub: Scrub,
) -> PullReport:
    """Bring what people have decided into the store, as rows of the source ``label_studio``; run twice, nothing new.

    The batch is what was annotated or changed since the last pull. It waits as a whole where people agree on it less
    than ``settings.agreement``, and the next pull looks again; where no two people saw the same task nothing can be
    said, and it goes on. ``folder`` gets ``agreement.json``.

    Raises:
        ConfigError: projects.yaml is wrong, or Label Studio has nothing at that address.
        AccessDenied: it refuses the token.
        ServiceDown: it does not answer; nothing is stored, the next run goes on.
        Throttled: it asks to slow down.
    """
    form = forms.get(project)
    with locked(folder, project), Server(connection, settings.patience) as server:
        made = projects.find(server, project)
        if made is None:
            return PullReport(project=project)
        examples = store.read(skills=[form.skill])
        known = {example.id: example for example in examples if example.source != SOURCE}
        standing = rows.standing(examples, project)
        found = read(server, made.id, known, form, scrub)
        silent = _silent(server, made.id, found, standing)
        batch = [item for item in found.items if item.stamps != rows.stamps_of(standing.get(item.record.example.id))]
        of_batch = _agreement(batch)
        if waits := _why(of_batch, settings, len(batch)):
            report = PullReport(project=project, waits=waits, differ=list(map(str, of_batch.differ)))
        else:
            decided = [(item, decide(item.said, form.same)) for item in batch]
            taken_back = [Record(known[one], scrub(known[one]), form) for one in silent if one in known]
            store.upsert(_rows(project, made.id, decided, taken_back, standing))
            report = _report(project, decided, len(taken_back))
        stars = agreement((label for item in found.items for label in item.stars()), "ordinal")
        summary.write(folder, project, settings, _agreement(found.items), of_batch, stars, bool(waits))
    report = report.model_copy(update={"tasks": len(found.items), "unreadable": found.unreadable, **found.counts})
    _tell(report)
    return report


def told(report: PullReport) -> str:
    """One line for a log."""
    if report.off:
        return report.off
    if report.waits:
        return f"waits: {report.waits}"
    more = {
        "where nobody could tell": report.cannot_say,
        "undecided": report.undecided,
        "taken back": report.withdrawn,
        "only skipped": report.skipped,
        "whose record changed after the annotation": report.outdated,
        "about no example of the store": report.unknown,
        "unreadable annotations": len(report.unreadable),
    }
    said = [f"{report.answered} new answers", f"{report.tasks} tasks answered in all"]
    return ", ".join([*said, *(f"{count} {what}" for what, count in more.items() if count)])


def _silent(server: Server, project: int, found: Found, standing: Mapping[str, Example]) -> set[str]:
    """Examples whose answer stands in the store and in no annotation any more, though their task is there.

    A task or project that was removed takes no answer back: people decided, and nothing says that they changed
    their mind.
    """
    read_now = {item.record.example.id for item in found.items}
    gone = {one for one, row in standing.items() if row.human_validated and one not in read_now}
    if not gone - found.silent:
        return gone & found.silent
    unanswered = {str(task.data.get(ID)) for task in server.tasks(project) if not task.annotated}
    return gone & (found.silent | unanswered)


def _agreement(items: Sequence[Item]) -> Agreement:
    return agreement(label for item in items for label in item.labels())


def _why(found: Agreement, settings: AnnotateSettings, size: int) -> str:
    """Why a batch waits, or nothing."""
    held = found.held(settings.measure)
    if held is None or held >= settings.agreement:
        return ""
    measure = found.measure if settings.measure == "kappa" and found.value is not None else "percent agreement"
    return (
        f"{measure} is {held:.2f} on the {found.items} tasks that several people answered, below "
        f"annotate.agreement {settings.agreement:g}; {size} answers are not taken until they agree"
    )


def _rows(
    project: str,
    project_id: int,
    decided: Sequence[tuple[Item, Decision]],
    taken_back: Sequence[Record],
    standing: Mapping[str, Example],
) -> list[Example]:
    made = [
        rows.row(item.record, project, {"project_id": project_id, "task": item.task.id}, decision, item.stamps)
        for item, decision in decided
    ]
    for record in taken_back:
        place = {key: rows.told(standing[record.example.id])[key] for key in ("project_id", "task")}
        made.append(rows.row(record, project, place, Decision("withdrawn"), {}))
    return made


def _report(project: str, decided: Sequence[tuple[Item, Decision]], withdrawn: int) -> PullReport:
    states = Counter(decision.state for _, decision in decided)
    return PullReport(
        project=project,
        answered=states["answered"],
        cannot_say=states["cannot say"],
        undecided=states["undecided"],
        withdrawn=withdrawn,
        differ=[_dispute(item) for item, decision in decided if decision.state == "undecided"],
    )


def _dispute(item: Item) -> str:
    """Whose labels differ on what."""
    said = [f"{one.by} says {one.reading.label}" for one in item.said]
    alike = len({one.reading.label for one in item.said}) == 1
    return f"{item.name}: {', '.join(said)}{', and their answers differ in the text' if alike else ''}"


def _tell(report: PullReport) -> None:
    log.log(logging.WARNING if report.waits else logging.INFO, "%s: %s", report.project, told(report))
    for what, lines in (("they differ", report.differ), ("not an answer", report.unreadable)):
        for line in lines[:_TOLD]:
            log.warning("%s: %s", what, line)
        if len(lines) > _TOLD:
            log.warning("%s: %d more", what, len(lines) - _TOLD)
