"""How old a source may be before a retrain refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from collecting import Place, record

from opstune.collect import SourceReport, ages, refuse_stale
from opstune.collect.staleness import Age
from opstune.errors import DataError


def test_a_source_is_as_old_as_its_last_whole_reading(place: Place) -> None:
    place.write(record(1))
    place.pull()
    found = ages(["history"], place.store, [], datetime.now(UTC) + timedelta(hours=36))
    assert found[0].days == pytest.approx(1.5, abs=0.01)
    assert str(found[0]) == "history: read 36.0 hours ago"


def test_a_reading_that_failed_leaves_the_age_alone(place: Place) -> None:
    place.write(record(1))
    place.pull()
    (place.data / "incidents.jsonl").unlink()
    with pytest.raises(Exception, match="no file matches"):
        place.pull()
    found = ages(["history"], place.store, [SourceReport(source="history", problem="no file")], datetime.now(UTC))
    assert found[0].days is not None and found[0].days < 0.1


def test_a_source_that_is_off_or_was_never_read_holds_nothing_up(place: Place) -> None:
    off = SourceReport(source="history", off="there is no connection opstune_files")
    found = ages(["history", "other"], place.store, [off], datetime.now(UTC))
    assert [str(age) for age in found] == [
        "history: off, there is no connection opstune_files",
        "other: never read to its end",
    ]
    refuse_stale(found, 1)


@pytest.mark.parametrize(("days", "refused"), [(13.9, False), (14.1, True)])
def test_beyond_the_limit_a_retrain_refuses_and_names_the_source(days: float, refused: bool) -> None:
    found = [Age("incidents", days), Age("linear", 0.1)]
    if not refused:
        refuse_stale(found, 14)
        return
    with pytest.raises(DataError, match=r"incidents \(14\.1 days\); collect\.max_staleness_days is 14.*sources check"):
        refuse_stale(found, 14)
