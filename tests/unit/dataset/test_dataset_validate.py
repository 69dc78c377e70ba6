from __future__ import annotations

from typing import Any

import pytest

from opstune.dataset import validate
from opstune.dataset.validate import allows, reachable, settled, usable
from opstune.errors import ConfigError
from opstune.skills import SKILLS
from opstune.skills.base import target

SKILL_NAMES = ["remediation", "triage", "log_error"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"outcome": "failure"}, validate.FAILED),
        ({"outcome": "failure", "rating": 5, "human_validated": True}, validate.FAILED),
        ({"rating": 2}, validate.LOW_RATING),
        ({"metadata": {"unusable": True}}, validate.UNUSABLE),
        ({"answer": {}}, validate.UNANSWERED),
        ({"answer": {}, "human_validated": True}, validate.UNANSWERED),
        ({"answer": {}, "outcome": "failure"}, validate.FAILED),
        ({"context": {"alert": ""}}, validate.BAD_CONTEXT),
        ({"context": {"alert": "A", "labels": {}, "colour": "red"}}, validate.BAD_CONTEXT),
        ({"answer": {"function": "reboot_universe", "parameters": {}}}, validate.BAD_ANSWER),
        ({"answer": {"function": "restart_pod", "parameters": {"pod": "x"}}}, validate.BAD_ANSWER),
    ],
)
def test_an_example_that_may_not_teach_is_dropped_with_its_reason(
    make: Any, changes: dict[str, Any], reason: str
) -> None:
    kept, dropped = usable([make(0, **changes), make(1)], SKILL_NAMES)
    assert [example.source_id for example in kept] == ["1"]
    assert [(drop.source_id, drop.reason) for drop in dropped] == [("0", reason)]


@pytest.mark.parametrize(
    "changes", [{"outcome": "unknown"}, {"rating": 3}, {"rating": None}, {"human_validated": False}]
)
def test_what_nobody_judged_bad_may_teach(make: Any, changes: dict[str, Any]) -> None:
    kept, dropped = usable([make(0, **changes)], SKILL_NAMES)
    assert len(kept) == 1
    assert not dropped


def test_skills_that_are_not_configured_are_left_out_and_counted(make: Any) -> None:
    kept, dropped = usable([make(0, "triage"), make(1, "log_error"), make(2)], ["triage"])
    assert [example.skill for example in kept] == ["triage"]
    assert [drop.reason for drop in dropped] == [validate.NOT_CONFIGURED] * 2


def test_a_configured_skill_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="no skill 'palmistry'"):
        usable([], ["palmistry"])


def test_one_answer_has_one_text_whatever_order_it_came_in(make: Any) -> None:
    straight = make(0, "triage", answer={"severity": "SEV-1", "root_cause": "a leak", "mitigation": ""})
    reversed_ = make(1, "triage", answer={"mitigation": "", "root_cause": "a leak", "severity": "SEV-1"})
    kept, _ = usable([straight, reversed_], SKILL_NAMES)
    assert {target(example.answer) for example in kept} == {'{"severity":"SEV-1","root_cause":"a leak"}'}


def test_canonical_answers_stand_in_the_order_of_the_schema(make: Any) -> None:
    """The decoder writes keys in the schema's order: an answer taught in another one could never be given."""
    kept, _ = usable([make(number, skill) for number, skill in enumerate(SKILL_NAMES)], SKILL_NAMES)
    for example in kept:
        schema = SKILLS[example.skill].schema(example.context)
        order = list(schema.get("properties") or schema["oneOf"][0]["properties"])
        assert list(example.answer) == [key for key in order if key in example.answer]


@pytest.mark.parametrize(
    ("skill", "answer"),
    [
        ("remediation", {"function": "restart_pod", "parameters": {"namespace": "elsewhere", "pod": "invented"}}),
        ("log_error", {"message": "no such line", "category": "data", "severity": "low", "confidence": "high"}),
    ],
)
def test_an_answer_that_its_context_does_not_allow_is_dropped(make: Any, skill: str, answer: dict[str, Any]) -> None:
    kept, dropped = reachable([make(0, skill, answer=answer), make(1, skill)])
    assert [example.source_id for example in kept] == ["1"]
    assert [drop.reason for drop in dropped] == [validate.OUT_OF_REACH]


@pytest.mark.parametrize(
    ("schema", "value", "allowed"),
    [
        ({"const": "a"}, "a", True),
        ({"const": "a"}, "b", False),
        ({"enum": ["a", "b"]}, "b", True),
        ({"enum": ["a", "b"]}, "c", False),
        ({"type": "string", "maxLength": 1}, "longer", True),
        ({"type": "object", "properties": {"x": {"const": 1}}, "required": ["x"]}, {}, False),
        ({"type": "object", "properties": {"x": {"const": 1}}, "required": []}, {"x": 2}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False}, {"x": 2}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False}, "text", False),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, 2, True),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, 3, False),
    ],
)
def test_a_schema_allows_what_it_says(schema: dict[str, Any], value: Any, allowed: bool) -> None:
    assert allows(schema, value) is allowed


def test_a_reason_never_quotes_the_value(make: Any) -> None:
    _, dropped = usable(
        [make(0, "triage", answer={"severity": "token ghp_0123456789abcdefghijABCDEFGHIJ012345"})], SKILL_NAMES
    )
    assert dropped[0].detail
    assert "ghp_" not in dropped[0].detail


def corrected(make: Any, number: int, **changes: Any) -> Any:
    """A person's answer to the question of example 0, in another record."""
    question = make(0, "triage")
    answer = {"severity": "SEV-0", "root_cause": "a full disk"}
    return make(number, "triage", context=question.context, answer=answer, human_validated=True, **changes)


def test_what_a_person_answered_otherwise_is_left_out_and_named(make: Any) -> None:
    unsure, sure = make(0, "triage"), corrected(make, 9)
    kept, dropped = settled([unsure, sure, make(1, "triage")], set())
    assert [example.source_id for example in kept] == ["9", "1"]
    assert [(drop.id, drop.reason, drop.detail) for drop in dropped] == [(unsure.id, validate.OVERRULED, sure.id)]


def test_the_same_answer_another_skill_and_what_is_in_test_are_not_overruled(make: Any) -> None:
    sure = corrected(make, 9)
    agreeing = make(3, "triage", context=sure.context, answer=dict(reversed(sure.answer.items())))
    other = make(4, "log_error", context=sure.context)
    tested = make(5, "triage", context=sure.context)
    kept, dropped = settled([sure, agreeing, other, tested], {tested.id})
    assert len(kept) == 4
    assert not dropped


def test_two_people_who_disagree_both_stay(make: Any) -> None:
    """Who is right is for annotation to settle, not for the dataset."""
    one = corrected(make, 8)
    kept, _ = settled([one, one.model_copy(update={"id": "two", "answer": {"severity": "SEV-3"}})], set())
    assert len(kept) == 2
