from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from collecting import RULES, Place, record
from filelock import FileLock

from opstune.collect import Quarantine, SourceCheck, check, pulling
from opstune.collect.watermark import path_of
from opstune.errors import DataError, IntegrityError, ServiceDown
from opstune.settings import CollectSettings
from opstune.store import ExampleStore, Upserted


def checked(place: Place) -> SourceCheck:
    return check("history", place.store, place.settings, place.connection, place.home)


def test_a_source_without_its_connection_is_off_and_says_so(place: Place) -> None:
    place.connections.clear()
    assert place.pull().off == checked(place).off == "there is no connection opstune_files"
    assert place.examples() == []


def test_a_check_counts_what_is_new_and_stores_nothing(place: Place) -> None:
    place.write(record(1), record(2), record(3, level="purple"))
    found = checked(place)
    assert (found.reachable, found.authorised, found.new, found.refused) == (True, True, 2, 1)
    assert not place.store.exists()
    place.pull()
    assert (checked(place).read, checked(place).new) == (0, 0)


def test_a_check_of_a_broken_source_tells_the_problem(place: Place) -> None:
    found = checked(place)
    assert found.authorised is None and "no file matches" in found.problem


def test_a_first_collection_goes_days_back_from_the_newest_record(place: Place) -> None:
    place.settings = CollectSettings(days_back=10)
    place.write(*(record(day - 1, at=f"2026-01-{day:02d}T10:00:00Z") for day in range(1, 29)))
    report = place.pull()
    assert (report.new, report.passed_over) == (11, 17)


def test_a_wrong_date_in_the_future_does_not_move_the_start(place: Place) -> None:
    place.settings = CollectSettings(days_back=10)
    place.write(record(1), record(2), record(3, at="2199-01-01T00:00:00Z"))
    assert (place.pull().new, Quarantine(place.store, "history").entries()[0].origin) == (2, "incidents.jsonl:3")


def test_the_oldest_moment_of_the_first_collection_holds_for_later_ones(place: Place) -> None:
    place.settings = CollectSettings(days_back=3)
    place.write(record(1), record(10))
    place.pull()
    place.write(record(1), record(10), record(11))
    assert place.pull().new == 1
    assert len(place.examples()) == 2


def test_since_reaches_further_back_than_the_watermark(place: Place) -> None:
    place.settings = CollectSettings(days_back=3)
    place.write(record(1), record(10))
    place.pull()
    report = place.pull(since=datetime(2026, 1, 1, tzinfo=UTC))
    assert (report.new, report.unchanged) == (1, 1)


def test_records_that_do_not_concern_the_source_are_passed_over(place: Place) -> None:
    place.rules({**RULES, "when": [{"field": "state", "in": ["reviewed"]}, {"field": "title", "exists": True}]})
    place.write(record(1, state="reviewed"), record(2, state="open"), record(3), {"state": "reviewed"})
    report = place.pull()
    assert (report.new, report.passed_over, report.quarantined) == (1, 3, 0)


def test_a_changed_mapping_reads_everything_again(place: Place) -> None:
    place.write(record(1), record(2, level="purple"))
    place.pull()
    severity = {"from": "level", "map": {"high": "SEV-1", "purple": "SEV-0"}}
    place.rules({**RULES, "answer": {"severity": severity}})
    report = place.pull()
    assert (report.new, report.unchanged, report.standing) == (1, 1, 0)


def test_a_run_killed_between_two_writes_loses_nothing_and_doubles_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "_BATCH", 2)
    place.write(*(record(number) for number in range(5)))
    upsert, calls = ExampleStore.upsert, []

    def killed_at_the_second(self: ExampleStore, examples: list[object]) -> Upserted:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return upsert(self, examples)  # type: ignore[arg-type]

    monkeypatch.setattr(ExampleStore, "upsert", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        place.pull()
    assert len(place.examples()) == 2 and not path_of(place.store, "history").exists()
    report = place.pull()
    assert (report.new, report.unchanged, len(place.examples())) == (3, 2, 5)


def test_a_mapping_that_fits_nothing_stops_before_it_copies_the_source(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "_HOPELESS", 5)
    place.write(*(record(number, level="purple") for number in range(9)))
    with pytest.raises(DataError, match=r"none of the first 5 records.*purple"):
        place.pull()
    assert not path_of(place.store, "history").exists()


def test_two_collections_of_one_source_do_not_run_at_once(place: Place) -> None:
    place.write(record(1))
    place.pull()
    with (
        FileLock(path_of(place.store, "history").with_suffix(".lock")),
        pytest.raises(ServiceDown, match="another process"),
    ):
        place.pull()


@pytest.mark.parametrize("part", ["watermark", "quarantine"])
def test_a_damaged_state_file_is_told_by_name(place: Place, part: str) -> None:
    place.write(record(1), "{")
    place.pull()
    path = path_of(place.store, "history") if part == "watermark" else Quarantine(place.store, "history").path
    path.write_text('{"half')
    with pytest.raises(IntegrityError, match=path.name):
        place.pull()


def test_the_quarantine_is_its_owners_alone(place: Place) -> None:
    place.write("password=hunter2 {")
    place.pull()
    mode = Quarantine(place.store, "history").path.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


REAL_RULES = Path(__file__).parents[4] / "shared" / "data" / "alert-rules.jsonl"


@pytest.mark.skipif(not REAL_RULES.is_file(), reason="the real alert rules are not on this machine")
def test_every_real_alert_rule_becomes_a_triage_example(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPSTUNE_CONFIG")
    assert place.pull("alert_rules").off == "there is no connection opstune_alert_rules"
    place.connections["opstune_alert_rules"] = str(REAL_RULES)
    report = place.pull("alert_rules")
    assert (report.new, report.quarantined) == (954, 0)
    example = next(one for one in place.examples() if one.context["title"] == "FlinkJobIsNotRunning")
    assert example.group_id == "apache-flink" and example.answer == {"severity": "SEV-1"}
    assert example.context["expression"] == "flink_jobmanager_numRunningJobs == 0" and "summary" in example.context
