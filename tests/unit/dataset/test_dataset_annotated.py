"""A person's answer stands in the dataset where the record's own stood, under the same id."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from opstune.annotated import KEY, SOURCE, joined
from opstune.examples import Example, example_id


def example(source: str, source_id: str, answer: dict[str, Any], **more: Any) -> Example:
    key = example_id(source, source_id, "triage")
    when = datetime(2026, 1, 1, tzinfo=UTC)
    given = {"group_id": "g", "occurred_at": when, "context": {"title": "t"}, "answer": answer, **more}
    return Example(id=key, skill="triage", source=source, source_id=source_id, **given)


def test_an_answer_of_a_person_takes_the_place_of_the_record_s_own() -> None:
    record = example("incidents", "I-1", {"severity": "SEV-3"})
    about = {KEY: {"record": {"id": record.id, "source": "incidents", "source_id": "I-1"}}}
    said = example(SOURCE, "7", {"severity": "SEV-1"}, human_validated=True, annotator="ann", metadata=about)
    (found,) = joined([record, said])
    assert (found.id, found.source, found.answer) == (record.id, "incidents", {"severity": "SEV-1"})
    assert found.human_validated and found.annotator == "ann"
