from __future__ import annotations

from typing import Any

import pytest

from opstune.skills import get

ANSWER = {
    "risk": "high",
    "security_impact": "user-7 can read every secret of shop",
    "root_cause": "role reader-3 was granted to user-7 without approval",
    "actions": ["revoke role reader-3 from user-7", "review who grants reader-3"],
}
ALL_RIGHT = {
    "correct": True,
    "risk": True,
    "underrated": False,
    "security_impact": True,
    "root_cause": True,
    "actions": True,
}


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({}, {}),
        ({"risk": "medium"}, {"correct": False, "risk": False, "underrated": True}),
        ({"risk": "critical"}, {"correct": False, "risk": False}),
        ({"security_impact": "user-8 can read every secret of shop"}, {"security_impact": False}),
        ({"root_cause": "the entry is a false alarm"}, {"root_cause": False}),
        ({"actions": ["revoke role reader-3 of user-7"]}, {}),
        ({"actions": ["page everybody", "rotate all keys", "restart"]}, {"actions": False}),
        ({"actions": None}, {"actions": False}),
    ],
)
def test_each_part_of_an_assessment_is_scored_by_itself(changes: dict[str, Any], different: dict[str, bool]) -> None:
    assert get("audit").score(ANSWER, {**ANSWER, **changes}) == {**ALL_RIGHT, **different}


def test_no_valid_answer_to_a_serious_entry_is_underrating_it() -> None:
    scores = get("audit").score(ANSWER, None)
    assert scores.pop("underrated") and not any(scores.values())


@pytest.mark.parametrize("risk", ["low", "medium"])
def test_what_is_not_serious_cannot_be_underrated(risk: str) -> None:
    assert get("audit").score({"risk": risk}, {"risk": "low"}) == {"correct": risk == "low", "risk": risk == "low"}


def test_details_come_as_pairs_or_as_text() -> None:
    skill = get("audit")
    for details in ({"rows": 7, "mfa": False}, "rows: 7\nmfa: false"):
        context = skill.context_model.model_validate({"actor": "a", "action": "grant", "details": details})
        assert "rows: 7\n  mfa: false" in skill.render(context.model_dump())
