from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from opstune.collect.merges.diffs import FileChange
from opstune.collect.merges.review_findings import FindingRule, Review, ReviewComment, fixed, reviewed
from opstune.skills import get
from opstune.skills.code_review import lines

SECRET = FindingRule(kind="hard_coded_secret", words=["hard-coded password", "secret in git"], risk="critical")
ROLE = FindingRule(kind="wide_role", words=["too broad"], labels=["rbac"], risk="high")
RULES = [SECRET, ROLE]
HUNK = '@@ -1,2 +1,3 @@ provider "db" {\n user = "api"\n-password = var.password\n+password = "hunter2"'


def comment(body: str, **changes: Any) -> ReviewComment:
    return ReviewComment(**{"path": "main.tf", "line": 2, "body": body, "author": "jane", "hunk": HUNK, **changes})


@pytest.mark.parametrize(
    "body",
    [
        "This is a hard-coded password.",
        "Please no tabs here. A **hard-coded\npassword** must not stand here",
        "- Hard-coded   Password, move it to the vault",
        "nit: secret in git",
    ],
)
def test_a_comment_that_says_so_is_a_finding_at_its_line(body: str) -> None:
    found = reviewed([comment(body)], RULES)
    assert found and found.risk == "critical"
    assert [(one["kind"], one["line"]) for one in found.findings] == [("hard_coded_secret", 'password = "hunter2"')]
    answer = get("code_review").answer_model.model_validate({"findings": found.findings, "risk": found.risk})
    assert answer.model_dump()["findings"][0]["line"] in lines(found.code)


@pytest.mark.parametrize(
    "changes",
    [
        {"body": "looks good"},
        {"body": "Is this a hard-coded password?"},
        {"body": "this is not a hard-coded password"},
        {"body": "no secret in git here, fine"},
        {"body": "> this is a hard-coded password\n\nI moved it"},
        {"body": "```\nhard-coded password\n```"},
        {"body": "a hard-coded passwordless login"},
        {"counts": False},
        {"removed": True},
        {"hunk": ""},
        {"hunk": "@@ -1 +1,2 @@\n a\n+"},
        {"hunk": "@@ -1,2 +1 @@\n a\n-password = x"},
    ],
)
def test_what_nobody_says_of_a_line_is_no_finding(changes: dict[str, Any]) -> None:
    assert reviewed([comment(**{"body": "hard-coded password", **changes})], RULES) is None


def test_findings_of_a_file_stand_together_with_the_worst_risk() -> None:
    longer = f'{HUNK}\n+role = "admin"'
    other = "@@ -20 +21 @@\n+role = all"
    said = [comment("hard-coded password"), comment("too broad", hunk=longer), comment("too broad!", hunk=other)]
    found = reviewed(said, RULES)
    assert found and found.risk == "critical" and found.code == f"{longer}\n{other}"
    assert [one["line"] for one in found.findings] == ['password = "hunter2"', 'role = "admin"', "role = all"]


def test_a_sentence_that_is_too_long_is_no_advice() -> None:
    found = reviewed([comment("hard-coded password. Use the vault."), comment("secret in git " + "x" * 120)], [SECRET])
    assert found and [one["advice"] for one in found.findings] == ["hard-coded password."]


CHANGE = FileChange("main.tf", "modified", 1, 1, HUNK)


@pytest.mark.parametrize(
    ("title", "labels", "kinds"),
    [
        ("Fix hard-coded password in the provider", [], ["hard_coded_secret"]),
        ("Fix the provider", ["rbac"], ["wide_role"]),
        ("Fix the provider", [], []),
        ("Fix hard-coded password", ["rbac"], []),
        ("Add a hard-coded password check? ", [], []),
    ],
)
def test_a_title_or_label_is_a_finding_where_one_line_went(title: str, labels: list[str], kinds: list[str]) -> None:
    found = fixed(CHANGE, title, labels, RULES)
    assert found.code == 'user = "api"\npassword = var.password'
    assert [one["kind"] for one in found.findings] == kinds
    assert {one["line"] for one in found.findings} <= {"password = var.password"}
    assert (found.risk is None) == (not kinds)


def test_where_two_lines_went_nobody_knows_which_it_was() -> None:
    patch = "@@ -1,2 +1 @@\n-a\n-b\n+c"
    assert fixed(FileChange("x", "modified", 1, 2, patch), "hard-coded password", [], RULES) == Review("a\nb")


def test_words_without_letters_are_refused() -> None:
    with pytest.raises(ValidationError, match="words must hold letters"):
        FindingRule.model_validate({"kind": "other", "words": ["!"], "risk": "low"})
