"""A source that gives its records in a lasting order goes on where a killed run stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from collecting import RULES, Place, record

from opstune.collect import Quarantine, watermark
from opstune.collect.kinds import KINDS
from opstune.collect.source import Kind, Opening, Raw, Reached
from opstune.errors import ServiceDown
from opstune.settings import Section


class Pages:
    """Pages of two records each; breaks off before page ``breaks_at``."""

    def __init__(self, pages: list[list[dict[str, Any]]], breaks_at: int | None) -> None:
        self.pages, self.breaks_at = pages, breaks_at
        self.asked: list[int] = []

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        return datetime(2026, 1, 31, tzinfo=UTC)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        for page in range(position.get("page", 0), len(self.pages)):
            if page == self.breaks_at:
                raise ServiceDown("the line went dead")
            self.asked.append(page)
            for one in self.pages[page]:
                yield Raw("", f"record {one['id']}", one)
            yield Reached({"page": page + 1})

    def reached(self) -> dict[str, Any]:
        return {"page": len(self.pages)}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)


@pytest.fixture
def open_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[Pages], None]:
    place.rules({**RULES, "kind": "pages", "connection": None, "read": {}})

    def open_with(pages: Pages) -> None:
        def opened(options: Section, opening: Opening) -> Pages:
            return pages

        monkeypatch.setitem(KINDS, "pages", Kind(Section, opened, needs_connection=False))

    return open_with


def test_a_run_that_breaks_off_keeps_its_pages_and_the_next_begins_there(
    place: Place, open_with: Callable[[Pages], None]
) -> None:
    bad = record(2, level="unheard of")
    pages = [[record(1), bad], [record(3), record(4)], [record(5), record(6)]]
    open_with(Pages(pages, breaks_at=2))
    with pytest.raises(ServiceDown, match="the line went dead"):
        place.pull()
    assert [one.source_id for one in place.examples()] == ["I-1", "I-3", "I-4"]
    assert len(Quarantine(place.store, "history").entries()) == 1
    mark = watermark.load(place.store, "history")
    assert mark and mark.collected_at is None

    again = Pages(pages, breaks_at=None)
    open_with(again)
    report = place.pull()
    assert again.asked == [2]
    assert (report.read, report.new, report.standing) == (2, 2, 1)
    assert len(place.examples()) == 5


def test_a_source_that_takes_too_long_is_given_up_and_read_next_time(place: Place) -> None:
    place.write(record(1), record(2))
    patient = place.settings
    place.settings = patient.model_copy(update={"time_limit_minutes": 1e-9})
    with pytest.raises(ServiceDown, match=r"longer than collect\.time_limit_minutes; 0 records were read"):
        place.pull()
    place.settings = patient
    assert place.pull().new == 2


def test_a_record_nobody_has_answered_is_kept_without_an_answer(place: Place) -> None:
    place.rules({**RULES, "answer_when": [{"field": "level", "exists": True}]})
    place.write(record(1), record(2, level=None))
    report = place.pull()
    assert (report.new, report.quarantined) == (2, 0)
    assert {one.source_id: one.answer for one in place.examples()} == {"I-1": {"severity": "SEV-1"}, "I-2": {}}
