"""The generated history through the sources of the repository: what must arrive arrives, and nothing else."""

from __future__ import annotations

from collections import defaultdict

import pytest
from collecting import Place

from opstune.collect import Quarantine, SourceReport, source_names
from opstune.settings import SimulateSettings

simulate = pytest.importorskip("opstune.simulate")
SETTINGS = SimulateSettings(seed=5, days=8, incidents_per_day=12)


@pytest.fixture
def embedded(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("OPSTUNE_CONFIG")
    place.connections = {
        "opstune_files": str(place.home / "history"),
        "opstune_database": f"sqlite:///{place.home / 'history' / 'oncall.db'}",
    }
    return place


def collect(place: Place) -> dict[str, SourceReport]:
    return {source: place.pull(source) for source in source_names()}


def test_the_history_arrives_whole_and_its_broken_records_in_quarantine(embedded: Place) -> None:
    truth = simulate.write_history(embedded.home / "history", SETTINGS)
    reports = collect(embedded)
    arrived: dict[str, set[str]] = defaultdict(set)
    for example in embedded.examples():
        arrived[f"{example.skill} {example.outcome}"].add(example.source_id)
    repeats = {
        one
        for kind in ("exact_duplicate", "near_duplicate", "near_duplicate_across")
        for one in truth.dirt.get(kind, [])
    }
    assert arrived["remediation success"] - repeats == set(truth.usable["remediation"])
    assert arrived["remediation failure"] == set(truth.dirt["failed_remediation"])
    assert arrived["triage success"] == set(truth.usable["triage"])
    assert arrived["log_error success"] == set(truth.usable["log_error"])
    refused = [entry for source in source_names() for entry in Quarantine(embedded.store, source).entries()]
    assert len(refused) == sum(report.quarantined for report in reports.values())
    assert len(refused) == len(truth.dirt["broken_record"]) + len(truth.dirt["half_line"])
    assert reports["alert_rules"].off


def test_a_second_run_adds_nothing_and_a_further_week_only_itself(embedded: Place) -> None:
    simulate.write_history(embedded.home / "history", SETTINGS)
    collect(embedded)
    before = {example.id for example in embedded.examples()}
    again = collect(embedded)
    assert sum(report.new + report.updated + report.quarantined for report in again.values()) == 0
    truth = simulate.write_history(embedded.home / "history", SETTINGS, weeks_after=1)
    reports = collect(embedded)
    after = {example.id for example in embedded.examples()}
    usable = {example.source_id for example in embedded.examples()}
    assert before < after and sum(report.updated for report in reports.values()) == 0
    assert all(set(ids) <= usable for ids in truth.usable.values())
