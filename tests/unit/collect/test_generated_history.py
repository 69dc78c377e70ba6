"""The generated history through the sources of the repository: what must arrive arrives, and nothing else."""

from __future__ import annotations

from collections import defaultdict

import pytest
from collecting import Place, write_lines

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
    for skill in ("diagnosis", "audit", "code_review", "workflow"):
        odd = {one for one in truth.dirt.get("unreachable", []) if one[:2] == truth.usable[skill][0][:2]}
        assert arrived[f"{skill} success"] - repeats - odd == set(truth.usable[skill]), skill
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


def test_feedback_arrives_with_its_giver_and_counts_as_reviewed_only_by_somebody_else(embedded: Place) -> None:
    truth = simulate.write_history(embedded.home / "history", SETTINGS)
    assert embedded.pull("feedback").off == "there is no connection opstune_feedback"
    embedded.connections["opstune_feedback"] = embedded.connections["opstune_files"]
    embedded.pull("feedback")
    given = {example.source_id: example for example in embedded.examples()}
    assert set(given) == {one for kind, ids in truth.feedback.items() if kind != "broken" for one in ids}
    assert {entry.origin.partition(":")[0] for entry in Quarantine(embedded.store, "feedback").entries()} == {
        "feedback.jsonl"
    }
    assert {given[one].human_validated for one in truth.feedback["usable"]} == {True}
    assert {given[one].human_validated for kind in ("unreviewed", "self_reviewed") for one in truth.feedback[kind]} == {
        False
    }
    assert all(given[one].rating < 3 for one in truth.feedback["low_rated"])
    assert all(example.annotator and example.group_id.startswith("INC-") for example in given.values())
    reviewed = given[truth.feedback["usable"][0]]
    assert reviewed.metadata["reviewed_by"] != reviewed.annotator and reviewed.metadata["reviewed_at"]


def test_feedback_keeps_what_the_model_had_said(embedded: Place) -> None:
    embedded.connections["opstune_feedback"] = str(embedded.home / "rated")
    finding = {"message": "disk full", "category": "resource", "severity": "high"}
    row = {
        "id": "FB-1",
        "at": "2026-01-05T10:00:00Z",
        "user": "mira",
        "incident": "I-1",
        "rating": 4,
        "batch": "import 7",
    }
    row |= {"log": "ERROR disk full", "corrected": finding, "original": {**finding, "severity": "low"}}
    write_lines(embedded.home / "rated" / "feedback-1.jsonl", [row])
    embedded.pull("feedback")
    [example] = embedded.examples()
    assert example.corrections == {"answer": {**finding, "severity": "low"}}
    assert (example.answer, example.metadata) == (finding, {"batch": "import 7"})
