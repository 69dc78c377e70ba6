from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from collecting import RULES, Place, record

from opstune.collect import source_names
from opstune.collect.mapping import load
from opstune.collect.rules import MISSING, Rule, look_up, moment
from opstune.errors import ConfigError, DataError

NOW = datetime(2026, 2, 1, tzinfo=UTC)
RECORD = {
    "a": {"b": [1, 2], "c": None},
    "x.y": "dotted",
    "level": "high",
    "text": '{"k": "v"}',
    "labels": {"p": "1", "s": "2"},
}


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ({"from": "a.b"}, [1, 2]),
        ({"from": "x.y"}, "dotted"),
        ({"from": "a.c"}, MISSING),
        ({"from": "a.b.c"}, MISSING),
        ({"from": "nowhere", "default": 3}, 3),
        ({"value": "constant"}, "constant"),
        ({"template": "{level}/{x.y}"}, "high/dotted"),
        ({"template": "{level}/{nowhere}"}, MISSING),
        ({"from": "level", "map": {"high": "SEV-1"}}, "SEV-1"),
        ({"from": "level", "map": {"low": "SEV-3"}, "default": "SEV-2"}, "SEV-2"),
        ({"from": "level", "map": {"low": "SEV-3"}, "keep": True}, "high"),
        ({"from": "nowhere", "map": {"low": "SEV-3"}}, MISSING),
        ({"from": "text", "json": True}, {"k": "v"}),
        ({"from": "labels", "without": ["s"]}, {"p": "1"}),
    ],
)
def test_a_rule_takes_one_value_out_of_a_record(rule: dict[str, Any], value: Any) -> None:
    assert Rule.model_validate(rule).of(RECORD) == value


@pytest.mark.parametrize("rule", [{"from": "level", "map": {"low": "SEV-3"}}, {"from": "level", "json": True}])
def test_a_rule_refuses_what_it_cannot_read(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"high|Expecting"):
        Rule.model_validate(rule).of(RECORD)


def test_an_exact_key_wins_over_a_path() -> None:
    assert look_up({"a.b": 1, "a": {"b": 2}}, "a.b") == 1


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-05T10:00:00Z",
        "2026-01-05 10:00:00",
        "2026-01-05T12:00:00+02:00",
        1767607200,
        1767607200000,
        datetime(2026, 1, 5, 10),
    ],
)
def test_times_of_every_writing_mean_the_same_moment(value: Any) -> None:
    assert moment(value, NOW) == datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", "2026-13-40 25:00:00", None, True, 1e30, NOW + timedelta(days=2)])
def test_what_is_no_moment_of_the_past_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"time|future"):
        moment(value, NOW)


def test_a_record_becomes_an_example_of_its_skill(place: Place) -> None:
    found = load("history").example(record(3, level="low"), NOW)
    assert (found.skill, found.source, found.source_id, found.answer) == (
        "triage",
        "history",
        "I-3",
        {"severity": "SEV-3"},
    )
    assert found.occurred_at == datetime(2026, 1, 4, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"title": ""}, "context.title: String should have at least 1 character"),
        ({"title": 42}, "context.title: Input should be a valid string, got 42"),
        ({"level": "purple"}, "answer.severity: 'purple' is not in the lookup"),
        ({"at": "soon"}, "occurred_at: 'soon' is not a time"),
        ({"id": None}, "source_id: id is missing"),
    ],
)
def test_a_fault_names_the_key_what_was_found_and_what_to_do(place: Place, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as caught:
        load("history").example(record(1, **changes), NOW)
    assert told in str(caught.value) and "config/sources/history.yaml" in str(caught.value)


def test_all_faults_of_a_record_are_told_at_once(place: Place) -> None:
    with pytest.raises(DataError, match=r"source_id.*title.*'purple'.*occurred_at"):
        load("history").example({"level": "purple"}, NOW)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"skill": "cooking"}, "there is no skill 'cooking'"),
        ({"colour": "red"}, "colour: no such key"),
        ({"kind": "database"}, "read.query: field required"),
        ({"kind": "database", "read": {"query": "SELECT 1", "watermark": "at"}}, ":since"),
        ({"kind": "letters"}, "there is no kind of source 'letters'"),
        (
            {"kind": "database", "connection": None, "read": {"query": ":since", "watermark": "at"}},
            "needs a connection",
        ),
        ({"context": {"title": {"map": {}}}}, "exactly one of from, value and template"),
    ],
)
def test_a_wrong_source_file_is_told_with_its_faults(place: Place, changes: dict[str, Any], told: str) -> None:
    place.rules({**RULES, **changes})
    with pytest.raises(ConfigError, match=told):
        load("history")


def test_an_unknown_source_is_told_with_the_known_ones(place: Place) -> None:
    with pytest.raises(ConfigError, match="Known: history"):
        load("../history")


def test_every_source_of_the_repository_is_well_formed() -> None:
    assert {"agent_runs", "alert_rules", "incidents", "remediations", "task_logs"} <= set(source_names())
    for source in source_names():
        assert load(source).mapping.context


def test_the_fingerprint_changes_with_the_rules_and_with_the_catalogue_alone(place: Place, config: Path) -> None:
    before = load("history").fingerprint
    assert load("history").fingerprint == before
    place.rules({**RULES, "metadata": {"by": {"value": "x"}}})
    assert load("history").fingerprint != before
