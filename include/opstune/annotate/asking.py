"""What the champion says about examples that people may be asked about: shown to them, and a reason to ask."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from opstune.annotate.choose import MODEL_DIFFERS, Guess, Model, needs
from opstune.annotate.record import Record
from opstune.artifacts import write_text
from opstune.examples import Example
from opstune.settings import AnnotateSettings

log = logging.getLogger(__name__)

#: Cases that the model is asked about between two looks at the clock.
_AT_ONCE = 10


@dataclass(frozen=True)
class Asked:
    """Guesses by example id: as the model gave them to the scrubbed case, and about the record as it is."""

    guesses: Mapping[str, Guess] = field(default_factory=dict)
    restored: Mapping[str, Guess] = field(default_factory=dict)


def guesses(
    examples: Sequence[Example],
    record: Callable[[Example], Record | None],
    model: Model | None,
    settings: AnnotateSettings,
    room: int,
    kept: Path,
) -> Asked:
    """Ask about the examples without an answer, as many as there is ``room`` for, and about the newest answered ones.

    The model sees what a person sees, scrubbed. ``kept`` remembers with which answered records it agreed, so that
    each is compared once; another model or a changed record is compared anew. What is not answered within
    ``settings.champion_minutes`` goes out without its answer; without room nothing is asked.
    """
    if model is None or not room:
        return Asked()
    newest = sorted(examples, key=lambda example: (example.occurred_at, example.id), reverse=True)
    agreed = _agreed(kept, model.name)
    unanswered = [example for example in newest if not example.answer][:room]
    window = [example for example in newest if example.answer and not example.human_validated][: settings.compared]
    records = [found for example in [*unanswered, *window] if (found := record(example))]
    records = [one for one in records if agreed.get(one.example.id) != one.fingerprint]
    said = _ask(records, model, settings.champion_minutes * 60)
    restored = {
        one.example.id: replace(said[one.example.id], answer=one.restored(dict(said[one.example.id].answer)))
        for one in records
        if one.example.id in said
    }
    differ = {need.example.id for need in needs(window, restored, settings) if need.why == MODEL_DIFFERS}
    now = {
        one.example.id: one.fingerprint
        for one in records
        if one.example.id in said and one.example.answer and one.example.id not in differ
    }
    still = {example.id: agreed[example.id] for example in window if example.id in agreed}
    if now:
        write_text(kept, json.dumps({"model": model.name, "agreed": {**still, **now}}))
    return Asked(said, restored)


def _ask(records: Sequence[Record], model: Model, seconds: float) -> dict[str, Guess]:
    said: dict[str, Guess] = {}
    end = time.monotonic() + seconds
    for start in range(0, len(records), _AT_ONCE):
        if time.monotonic() > end:
            log.info("%s answered %d of %d cases in annotate.champion_minutes", model.name, start, len(records))
            break
        batch = records[start : start + _AT_ONCE]
        answers = model.ask([one.clean for one in batch])
        said.update((one.example.id, guess) for one, guess in zip(batch, answers, strict=True) if guess)
    return said


def _agreed(kept: Path, model: str) -> dict[str, str]:
    try:
        found = json.loads(kept.read_text())
    except (OSError, ValueError):
        return {}
    return dict(found["agreed"]) if found.get("model") == model else {}
