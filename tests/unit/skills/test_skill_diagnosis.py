from __future__ import annotations

from typing import Any

import pytest

from opstune.skills import get
from opstune.skills.diagnosis import LONGEST, MOST_PATHS, normalised, paths, same_cause, subject

TOPOLOGY = {"web-1": ["cart-2", "login-3"], "cart-2": ["db-4"], "login-3": ["db-4"], "db-4": []}
CONTEXT = {"symptoms": ["checkout is slow"], "telemetry": {"latency of web-1": "3 s"}, "topology": TOPOLOGY}
ANSWER = {
    "root_cause": "volume of db-4 is full",
    "query": 'disk_free{service="db-4"}',
    "critical_paths": ["web-1 > cart-2 > db-4", "web-1 > login-3 > db-4"],
    "remediation": ["expand the volume of db-4", "delete old archives of db-4"],
}
ALL_RIGHT = {"correct": True, "root_cause": True, "query": True, "paths": True, "remediation": True}


def test_paths_follow_the_calls_and_visit_no_service_twice() -> None:
    found = paths({"a": ["b", "c"], "b": ["c", "a"]})
    assert found == ["a", "b", "c", "a > b", "a > c", "b > c", "b > a", "a > b > c", "b > a > c"]


def test_a_topology_of_many_paths_gives_the_shortest_and_no_more_than_a_grammar_holds() -> None:
    everyone = [f"s{number}" for number in range(30)]
    found = paths(dict.fromkeys(everyone, everyone))
    assert len(found) == MOST_PATHS == len(set(found))
    assert [path.count(">") for path in found] == sorted(path.count(">") for path in found)
    chain = paths({f"s{number}": [f"s{number + 1}"] for number in range(20)})
    assert max(path.count(">") for path in chain) == LONGEST - 1


def test_a_call_that_the_topology_lacks_is_no_path() -> None:
    allowed = get("diagnosis").schema(CONTEXT)["properties"]["critical_paths"]["items"]["enum"]
    assert set(ANSWER["critical_paths"]) < set(allowed)
    assert "web-1 > db-4" not in allowed and "db-4 > web-1" not in allowed


def test_without_a_topology_there_are_no_paths_to_answer_with() -> None:
    assert "critical_paths" not in get("diagnosis").schema({"symptoms": ["x"]})["properties"]


def test_the_prompt_says_who_calls_whom() -> None:
    shown = get("diagnosis").render(CONTEXT)
    assert "topology:\n  web-1: cart-2, login-3\n  cart-2: db-4" in shown and "- checkout is slow" in shown


def test_one_symptom_may_come_as_plain_text() -> None:
    model = get("diagnosis").context_model
    assert model.model_validate({"symptoms": "slow"}).model_dump()["symptoms"] == ["slow"]


def test_readings_may_be_numbers_and_calls_need_no_list() -> None:
    context = {
        "symptoms": ["slow"],
        "telemetry": {"p95_ms": 2400, "up": True, "x": None},
        "topology": {"a": "b", "b": None},
    }
    found = get("diagnosis").context_model.model_validate(context).model_dump()
    assert found["telemetry"] == {"p95_ms": "2400", "up": "true"} and found["topology"] == {"a": ["b"], "b": []}


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("volume of db-4 is full", "the volume of db-4 is full", True),
        ("volume of db-4 is full", "Volume of db-4 is full.", True),
        ("connection pool of cart-2 is exhausted", "connection pool of cart-3 is exhausted", False),
        ("release 214 of cart is faulty", "release 213 of cart is faulty", False),
        ("volume of db-4 is full", "db-4 lost its primary", False),
        ("volume of db-4 is full", "", False),
    ],
)
def test_a_cause_is_found_when_it_blames_the_right_thing_in_like_words(expected: str, found: str, same: bool) -> None:
    assert same_cause(expected, found) is same


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ('rate(m{a="1",b="2"}[5m])', "rate( m{ b='2', a=\"1\", } [5m] )", True),
        ('m{a="1"}', 'm{a="2"}', False),
        ('m{a="1"}', 'm{a!="1"}', False),
        ('m{a="x y"}', 'm{a="xy"}', False),
        ('rate(m{a="1"}[5m])', 'rate(m{a="1"}[1h])', False),
        ('max(m{a="1"})', 'min(m{a="1"})', False),
        ('n{a="1"} / m{b="2"}', 'n{b="2"} / m{a="1"}', False),
        ("SELECT a FROM t  WHERE b = 'X';", "select a from T where b='X'", True),
        ("SELECT a FROM t WHERE b = 'X'", "SELECT a FROM t WHERE b = 'x'", False),
    ],
)
def test_queries_are_equal_whatever_their_spaces_and_the_order_of_matchers(left: str, right: str, same: bool) -> None:
    assert (normalised(left) == normalised(right)) is same


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ('sum by (x) (rate(errors_total{a="1"}[5m])) / sum(rate(calls_total[5m]))', "errors_total"),
        ("avg(up)", "up"),
        ("SELECT * FROM pg_locks WHERE x = 1", "pg_locks"),
        ("", "none"),
    ],
)
def test_the_label_is_what_the_query_looks_at(query: str, name: str) -> None:
    assert subject(query) == name == get("diagnosis").label({"root_cause": "x", "query": query})


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, set()),
        ({"root_cause": "volume of db-5 is full"}, {"correct", "root_cause"}),
        ({"query": "up"}, {"query"}),
        ({"critical_paths": ["web-1 > cart-2 > db-4"]}, {"paths"}),
        ({"critical_paths": list(reversed(ANSWER["critical_paths"]))}, set()),
        ({"remediation": ["delete all old archives of db-4"]}, set()),
        ({"remediation": ["restart web-1", "call somebody", "wait"]}, {"remediation"}),
        (dict.fromkeys(("query", "critical_paths", "remediation")), {"query", "paths", "remediation"}),
    ],
)
def test_each_part_of_a_diagnosis_is_scored_by_itself(changes: dict[str, Any], wrong: set[str]) -> None:
    scores = get("diagnosis").score(ANSWER, {**ANSWER, **changes})
    assert scores == {name: name not in wrong for name in ALL_RIGHT}


def test_of_three_paths_one_may_be_missing() -> None:
    expected = {"root_cause": "x", "critical_paths": ["a > b", "c > b", "b"]}
    assert get("diagnosis").score(expected, {"root_cause": "x", "critical_paths": ["a > b", "b"]})["paths"]


def test_what_the_history_does_not_know_is_not_scored() -> None:
    assert get("diagnosis").score({"root_cause": "x"}, ANSWER) == {"correct": False, "root_cause": False}


def test_an_invalid_answer_finds_nothing() -> None:
    assert get("diagnosis").score(ANSWER, None) == dict.fromkeys(ALL_RIGHT, False)
