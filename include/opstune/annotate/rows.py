"""What people said, in the example store: an example of its own for each that was annotated, joined to it at reading.

The source's own record stays as it is, so that neither the next collection overwrites a person's answer nor a person's
answer hides that the record changed. ``opstune.annotated`` says how the two are read as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from opstune import skills
from opstune.annotate.decide import Decision
from opstune.annotate.record import Record
from opstune.annotated import KEY, SOURCE
from opstune.examples import Example, example_id

#: Annotation id → when it last changed: which annotations a row was made of.
Stamps = Mapping[str, str]


def row(record: Record, project: str, place: Mapping[str, Any], decision: Decision, stamps: Stamps) -> Example:
    """The example that holds what people said about ``record``; ``place`` names project and task in Label Studio.

    Without an answer it is not validated and changes nothing when it is read; it remembers what was said.
    """
    example, said = record.example, decision.reading
    answer = record.restored(dict(said.answer)) if said and said.answer else {}
    corrected = bool(answer) and _taught(example.skill, answer) != _taught(example.skill, example.answer)
    told = {
        "project": project,
        **place,
        "annotations": dict(stamps),
        "state": decision.state,
        "label": said.label if said else "",
        **({"ratings": dict(said.ratings)} if said and said.ratings else {}),
        "record": {
            "id": example.id,
            "source": example.source,
            "source_id": example.source_id,
            "fingerprint": record.fingerprint,
        },
    }
    source_id = f"{project}:{example.id}"
    return example.model_copy(
        update={
            "id": example_id(SOURCE, source_id, example.skill),
            "source": SOURCE,
            "source_id": source_id,
            "answer": answer,
            # What was tried is not what people say should have been; nobody tried that.
            "outcome": "unknown" if corrected or not answer else example.outcome,
            "human_validated": decision.state == "answered",
            "rating": said.rating if said else None,
            "annotator": ", ".join(decision.by) or None,
            "corrections": {"answer": example.answer} if corrected else {},
            "notes": record.restored(said.notes) if said else "",
            "metadata": {**example.metadata, KEY: told},
        }
    )


def _taught(skill: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as it is taught: in its model's form, without empty texts."""
    try:
        whole = skills.get(skill).answer_model.model_validate(answer).model_dump(mode="json")
    except ValidationError:
        return dict(answer)
    return {name: value for name, value in whole.items() if value not in ("", None)}


def standing(examples: Iterable[Example], project: str) -> dict[str, Example]:
    """The rows of one project, by the id of the example that they are about."""
    found = (example for example in examples if example.source == SOURCE)
    return {row.metadata[KEY]["record"]["id"]: row for row in found if row.metadata[KEY]["project"] == project}


def told(row: Example) -> dict[str, Any]:
    """Where a row comes from: project and task in Label Studio, annotations, state, label, record."""
    return dict(row.metadata[KEY])


def stamps_of(row: Example | None) -> dict[str, str]:
    """Which annotations a row was made of."""
    return dict(told(row)["annotations"]) if row else {}
