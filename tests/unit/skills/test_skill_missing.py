"""An answer that is missing or invalid is wrong, whatever was expected; what was never asked for is not scored."""

from __future__ import annotations

from typing import Any

import pytest

from opstune.engines.base import parse
from opstune.skills import SKILLS, get

#: Metrics that tell of a fault when they hold; a missing answer proposes nothing, and misses what it should find.
FAULTS = {"false_positive", "false_negative", "false_finding", "missed_finding", "underrated"}
STEP = {"function": "stop", "when": ""}
EXPECTED: list[tuple[str, dict[str, Any]]] = [
    ("remediation", {"function": "restart_pod", "parameters": {"namespace": "a", "pod": "b"}}),
    ("remediation", {"function": "none", "parameters": {}}),
    ("triage", {"severity": "SEV-1", "root_cause": "the disk was full"}),
    ("triage", {"severity": "SEV-1", "root_cause": "???"}),
    ("triage", {"severity": None, "root_cause": "!", "mitigation": " "}),
    ("log_error", {"message": " ", "category": "code", "severity": "low"}),
    ("diagnosis", {"root_cause": "...", "query": ";", "critical_paths": ["a"], "remediation": ["-"]}),
    ("audit", {"risk": "high", "security_impact": "?", "root_cause": "?", "actions": ["?"]}),
    ("code_review", {"findings": [], "risk": "low"}),
    ("workflow", {"name": "x", "trigger": "x", "steps": [STEP], "rollback": STEP}),
]


@pytest.mark.parametrize(("skill", "expected"), EXPECTED, ids=lambda value: str(value)[:60])
def test_a_missing_answer_is_right_in_nothing(skill: str, expected: dict[str, Any]) -> None:
    scores = get(skill).score(expected, None)
    assert scores["correct"] is False
    assert [metric for metric, holds in scores.items() if holds and metric not in FAULTS] == []


def test_every_skill_has_a_case_here() -> None:
    assert {skill for skill, _ in EXPECTED} == set(SKILLS)


@pytest.mark.parametrize(("skill", "expected"), EXPECTED, ids=lambda value: str(value)[:60])
def test_the_expected_answer_itself_is_right_in_everything(skill: str, expected: dict[str, Any]) -> None:
    """Also texts without a word in them: they are alike where they are the same."""
    scores = get(skill).score(expected, expected)
    assert [metric for metric, holds in scores.items() if holds is (metric in FAULTS)] == []


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 20_000, '{"severity": "SEV-9"}', '{"severity": "\\ud800"}']
)
def test_what_is_no_answer_is_read_as_none(text: str) -> None:
    assert parse("triage", text) is None


def test_half_of_a_character_makes_an_answer_invalid() -> None:
    """It could be written to no file."""
    assert parse("triage", '{"severity": "SEV-1", "root_cause": "\\ud800"}') is None
