from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from collecting import RULES, Place, record

from opstune.collect import source_names
from opstune.collect.mapping import load
from opstune.collect.plain import plain
from opstune.collect.rules import MISSING, Rule, look_up, moment
from opstune.errors import ConfigError, DataError

NOW = datetime(2026, 2, 1, tzinfo=UTC)
RECORD = {
    "a": {"b": [1, 2], "c": None},
    "x.y": "dotted",
    "level": "high",
    "text": '{"k": "v"}',
    "labels": {"p": "1", "s": "2"},
    "reviewer": "vera",
    "giver": "mira",
    "shouting": " MIRA ",
    "list": "- one\u2028and a half\r\n\n- two\n",
    "pairs": "a: 1: one\nb:\n",
    "odd": '{"n": [NaN, Infinity], "s": "\\ud83d"}',
    "twice": '{"k": 1, "k": 2}',
    "deep": "[" * 100_000,
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
        ({"from": "reviewer", "other_than": "giver"}, True),
        ({"from": "giver", "other_than": "giver"}, False),
        ({"from": "shouting", "other_than": "giver"}, False),
        ({"from": "nowhere", "other_than": "giver"}, False),
        ({"from": "reviewer", "other_than": "nowhere"}, False),
        ({"from": "list", "lines": "list"}, ["one\u2028and a half", "two"]),
        ({"from": "pairs", "lines": "mapping"}, {"a": "1: one", "b": ""}),
        ({"from": "a.b", "lines": "list"}, [1, 2]),
        ({"from": "odd", "json": True}, {"n": ["NaN", "Infinity"], "s": "\ufffd"}),
    ],
)
def test_a_rule_takes_one_value_out_of_a_record(rule: dict[str, Any], value: Any) -> None:
    assert Rule.model_validate(rule).of(RECORD) == value


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"from": "level", "map": {"low": "SEV-3"}}, "'high' is not in the lookup"),
        ({"from": "level", "json": True}, "Expecting value"),
        ({"from": "twice", "json": True}, "the key 'k' stands twice"),
        ({"from": "deep", "json": True}, "nested too deeply"),
        ({"from": "list", "lines": "mapping"}, "is no line of `name: value`"),
    ],
)
def test_a_rule_refuses_what_it_cannot_read(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
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


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2026-13-40 25:00:00",
        None,
        True,
        1e30,
        float("nan"),
        pytest.param(10**5000, id="endless"),
        "\ud83d",
        NOW + timedelta(days=2),
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+12:00",
        0,
        -1,
    ],
)
def test_what_is_no_moment_of_the_past_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"time|future|before there were records"):
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
        ({"id": " "}, "source_id is empty"),
    ],
)
def test_a_fault_names_the_key_what_was_found_and_what_to_do(place: Place, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as caught:
        load("history").example(record(1, **changes), NOW)
    assert told in str(caught.value) and "config/sources/history.yaml" in str(caught.value)


def test_all_faults_of_a_record_are_told_at_once(place: Place) -> None:
    with pytest.raises(DataError, match=r"source_id.*occurred_at.*title.*'purple'"):
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
        ({"fields": {**RULES["fields"], "source_id": {"from": "id", "optional": True}}}, "cannot be optional"),
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


def test_what_was_there_before_a_correction_is_kept(place: Place) -> None:
    place.rules({**RULES, "corrections": {"answer": {"from": "said", "optional": True}}})
    assert load("history").example(record(1, said={"severity": "SEV-3"}), NOW).corrections == {
        "answer": {"severity": "SEV-3"}
    }
    assert load("history").example(record(1), NOW).corrections == {}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (datetime(2026, 1, 5, 10, tzinfo=UTC), "2026-01-05T10:00:00+00:00"),
        (date(2026, 1, 5), "2026-01-05"),
        (timedelta(minutes=90), "1:30:00"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("4.00"), 4),
        (Decimal("1.5"), 1.5),
        (Decimal("NaN"), "NaN"),
        (Decimal("1E+9000"), "1E+9000"),
        (float("-inf"), "-Infinity"),
        pytest.param(10**5000, "a number too long to keep", id="endless"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        (("a", {1: {2}}), ["a", {"1": [2]}]),
        ("half a \ud83d", "half a \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("nul \x00", "nul \x00"),
    ],
)
def test_what_json_cannot_hold_is_kept_as_what_it_can(value: Any, kept: Any) -> None:
    assert plain({"key": value}) == {"key": kept}


def test_a_record_without_a_bottom_is_refused(place: Place) -> None:
    bottomless: list[Any] = []
    bottomless.append(bottomless)
    with pytest.raises(DataError, match=r"nested more than 50 levels deep \(I-1\)"):
        load("history").example(record(1, more=bottomless), NOW)


def test_a_star_stands_for_all_that_a_mapping_holds_and_keys_beside_it_win(place: Place) -> None:
    place.rules({**RULES, "context": {"*": "about", "tier": {"from": "level"}}})
    found = load("history").example(record(1, about={"title": "t", "tier": "?", "scope": "all"}), NOW)
    assert list(found.context.items()) == [("title", "t"), ("tier", "high"), ("scope", "all")]
    with pytest.raises(DataError, match=r"context\.\*: a mapping is expected, got 'x'"):
        load("history").example(record(1, about="x"), NOW)
