"""Triage where the history knows only a part of the answer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from opstune.skills.triage import Triage, TriageAnswer

triage = Triage()
RUNBOOK = {"title": "KubeAPIDown", "asked": ["mitigation"]}
DRAIN = "drain the node and let the operator replace it"


def test_a_runbook_is_asked_for_its_mitigation_only() -> None:
    assert list(triage.schema(RUNBOOK)["properties"]) == ["mitigation"]
    assert triage.schema(RUNBOOK)["required"] == ["mitigation"]
    assert triage.schema({"title": "x"})["required"] == ["severity"]


@pytest.mark.parametrize(
    ("expected", "predicted", "scores"),
    [
        ({"mitigation": DRAIN}, {"mitigation": DRAIN}, {"correct": True}),
        ({"mitigation": DRAIN}, {"mitigation": "restart it"}, {"correct": False}),
        ({"mitigation": DRAIN}, None, {"correct": False}),
        ({"root_cause": DRAIN}, {"root_cause": DRAIN}, {"correct": True, "root_cause": True}),
        ({"severity": "SEV-1", "mitigation": DRAIN}, {"severity": "SEV-1"}, {"correct": True, "severity": True}),
    ],
)
def test_an_answer_is_right_in_what_the_history_knows(
    expected: dict[str, Any], predicted: dict[str, Any] | None, scores: dict[str, bool]
) -> None:
    assert triage.score(expected, predicted) == scores


def test_a_triage_that_says_nothing_is_no_answer() -> None:
    with pytest.raises(ValidationError, match="says nothing"):
        TriageAnswer()


def test_an_answer_without_a_severity_is_of_one_class_whether_it_says_so_or_not() -> None:
    """A history leaves out what it does not know; what a model said is read with every field."""
    read = TriageAnswer(mitigation=DRAIN).model_dump()
    assert read["severity"] is None
    assert triage.label(read) == triage.label({"mitigation": DRAIN}) == "no severity"
