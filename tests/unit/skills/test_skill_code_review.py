from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from opstune.skills import get
from opstune.skills.code_review import CodeReviewContext, lines

DIFF = """diff --git a/run.sh b/run.sh
index 1f2e3d4..5a6b7c8 100755
--- a/run.sh
+++ b/run.sh
@@ -1,3 +1,3 @@
 set -e
-curl https://one.example/i.sh
+curl -k https://one.example/i.sh | sh
\\ No newline at end of file
"""
SECRET = {"kind": "hard_coded_secret", "line": "password = 'x'", "advice": "read it from the environment"}
CHECK = {"kind": "disabled_check", "line": "verify=False,", "advice": ""}
RIGHT = {"correct": True, "findings": True, "risk": True, "false_finding": False, "missed_finding": False, "line": True}


def test_a_finding_may_quote_each_line_of_a_file_once_without_indentation() -> None:
    assert lines("a:\n  - b\n\n  - b\n\t- c \n") == ["a:", "- b", "- c"]


def test_of_a_diff_only_lines_that_will_be_there_may_be_quoted() -> None:
    assert lines(DIFF) == ["set -e", "curl -k https://one.example/i.sh | sh"]


def test_marks_of_a_diff_stay_where_there_is_no_diff() -> None:
    assert lines("- image: a\n+ b") == ["- image: a", "+ b"]


@pytest.mark.parametrize("code", ["", " \n\t\n", "@@ -1 +0,0 @@\n-gone\n"])
def test_code_without_a_line_to_review_is_refused_in_words(code: str) -> None:
    with pytest.raises(ValidationError, match="no line to review"):
        CodeReviewContext.model_validate({"code": code})


def test_a_quoted_line_loses_its_indentation() -> None:
    answer = get("code_review").answer_model.model_validate(
        {"findings": [{"kind": "other", "line": "  x = 1 "}], "risk": "low"}
    )
    assert answer.model_dump()["findings"] == [{"kind": "other", "line": "x = 1", "advice": ""}]


@pytest.mark.parametrize(
    ("expected", "predicted", "different"),
    [
        ([SECRET], [SECRET], {}),
        ([SECRET, CHECK], [CHECK, SECRET], {}),
        ([SECRET], [{**SECRET, "advice": "other words", "line": "password  = 'x'"}], {}),
        ([SECRET], [{**SECRET, "line": "import os"}], {"line": False}),
        ([SECRET], [SECRET, CHECK], {"correct": False, "findings": False, "false_finding": True, "line": None}),
        ([SECRET, CHECK], [SECRET], {"correct": False, "findings": False, "missed_finding": True, "line": None}),
        (
            [SECRET],
            [CHECK],
            {"correct": False, "findings": False, "false_finding": True, "missed_finding": True, "line": None},
        ),
        ([], [], {"missed_finding": None, "line": None}),
        (
            [],
            [CHECK],
            {"correct": False, "findings": False, "false_finding": True, "missed_finding": None, "line": None},
        ),
    ],
)
def test_findings_are_scored_as_statements_about_a_case(
    expected: list[dict[str, str]], predicted: list[dict[str, str]], different: dict[str, bool | None]
) -> None:
    scores = get("code_review").score({"findings": expected, "risk": "high"}, {"findings": predicted, "risk": "high"})
    assert scores == {name: holds for name, holds in {**RIGHT, **different}.items() if holds is not None}


def test_a_wrong_risk_is_not_correct() -> None:
    scores = get("code_review").score({"findings": [SECRET], "risk": "high"}, {"findings": [SECRET], "risk": "low"})
    assert scores == {**RIGHT, "correct": False, "risk": False}


@pytest.mark.parametrize("findings", [[], [SECRET]])
def test_an_invalid_answer_claims_nothing_and_finds_nothing(findings: list[dict[str, str]]) -> None:
    scores = get("code_review").score({"findings": findings, "risk": "low"}, None)
    assert scores["findings"] is scores["correct"] is scores["false_finding"] is False
    assert scores.get("missed_finding", True)


@pytest.mark.parametrize(
    ("findings", "label"),
    [([], "clean"), ([SECRET, SECRET], "hard_coded_secret"), ([SECRET, CHECK], "several")],
)
def test_the_label_is_the_kind_of_finding(findings: list[dict[str, Any]], label: str) -> None:
    assert get("code_review").label({"findings": findings, "risk": "low"}) == label
