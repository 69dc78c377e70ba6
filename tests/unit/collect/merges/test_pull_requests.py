from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from opstune.collect.merges.diffs import FileChange
from opstune.collect.merges.pull_requests import Pull, PullRequestOptions, is_chosen, records
from opstune.collect.merges.review_findings import ReviewComment

WHEN = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = {"kind": "hard_coded_secret", "words": ["hard-coded password"], "risk": "critical"}
FILES = [
    FileChange(
        "deploy/main.tf", "modified", 1, 1, '@@ -1,2 +1,2 @@\n user = "api"\n-password = "x"\n+password = var.p'
    ),
    FileChange("scripts/new.sh", "added", 2, 0, "@@ -0,0 +1,2 @@\n+#!/bin/sh\n+ls"),
    FileChange("package-lock.json", "modified", 9, 9, "@@ -1 +1 @@\n-a\n+b"),
]
AUTOMATION = """name: restart a hanging consumer
trigger: {alert: ConsumerBehind}
steps:
  - {function: check, when: lag grows, note: ours}
  - restart_consumer
rollback: {function: page, when: it comes back}
"""
BODY = """## Problem
The consumer hangs.

## Signals
- ConsumerBehind: 9 of 9

## Manual steps
1. look at the lag
2. restart the consumer
"""


def pull(**changes: Any) -> Pull:
    known = {
        "id": "acme/shop#7",
        "repository": "acme/shop",
        "number": 7,
        "title": "Fix the login",
        "body": "for OPS-12",
        "author": "sam",
        "labels": ["Bug"],
        "branch": "fix/login",
        "merged_at": WHEN,
        "files": FILES,
    }
    return Pull(**{**known, **changes})


def options(**given: Any) -> PullRequestOptions:
    return PullRequestOptions.model_validate(given)


def new_file(path: str, text: str) -> FileChange:
    lines = text.splitlines()
    patch = "\n".join([f"@@ -0,0 +1,{len(lines)} @@", *(f"+{line}" for line in lines)])
    return FileChange(path, "added", len(lines), 0, patch)


@pytest.mark.parametrize(
    ("choose", "chosen", "why"),
    [
        ({}, True, []),
        ({"labels": ["bug"]}, True, ["label bug"]),
        ({"labels": ["security"]}, False, []),
        ({"words": ["fix"]}, True, ["word fix"]),
        ({"words": ["log"]}, False, []),
        ({"linked": True}, True, ["issue OPS-12"]),
        ({"labels": ["security"], "words": ["fix"], "linked": True}, True, ["word fix", "issue OPS-12"]),
    ],
)
def test_a_pull_request_is_chosen_by_a_label_a_word_or_an_issue(
    choose: dict[str, Any], chosen: bool, why: list[str]
) -> None:
    asked = options(choose=choose, record="pull_request")
    assert is_chosen(pull(), asked) is chosen
    assert records(pull(), asked)[0].get("chosen_by", []) == why


def test_only_issues_with_a_wanted_prefix_link() -> None:
    assert not is_chosen(pull(), options(choose={"linked": True}, issue_keys=["INC"]))


def test_each_file_that_people_wrote_and_that_was_there_before_becomes_a_record() -> None:
    (found,) = records(pull(), options())
    assert found == {
        "id": "acme/shop#7/deploy/main.tf",
        "repository": "acme/shop",
        "number": 7,
        "title": "Fix the login",
        "author": "sam",
        "labels": ["Bug"],
        "branch": "fix/login",
        "merged_at": "2026-03-01T00:00:00+00:00",
        "issues": ["OPS-12"],
        "incident": "OPS-12",
        "path": "deploy/main.tf",
        "kind": "infrastructure",
        "status": "modified",
        "additions": 1,
        "deletions": 1,
        "patch": FILES[0].patch,
        "code": 'user = "api"\npassword = "x"',
    }


def test_without_an_issue_the_pull_request_is_its_own_incident() -> None:
    assert records(pull(body=""), options())[0]["incident"] == "acme/shop#7"


def test_a_new_file_is_a_record_where_reviewers_found_something_in_it() -> None:
    said = ReviewComment("scripts/new.sh", 2, "a hard-coded password", "jane", "@@ -0,0 +1,2 @@\n+#!/bin/sh\n+ls")
    found = records(pull(comments=[said]), options(findings=[SECRET]))
    new = next(one for one in found if one["path"] == "scripts/new.sh")
    assert (new["kind"], new["risk"], new["findings"][0]["line"]) == ("script", "critical", "ls")
    assert new["comments"] == [{"path": "scripts/new.sh", "line": 2, "body": "a hard-coded password", "by": "jane"}]
    assert all("findings" not in one for one in found if one is not new)


@pytest.mark.parametrize(
    ("files", "answered"),
    [
        (FILES, True),
        ([*FILES, FileChange("b.sh", "modified", 0, 1, "@@ -1 +0,0 @@\n-ls")], False),
        ([*FILES, FileChange("b.sh", "modified", 0, 1, "", note="GitHub leaves the patch out")], False),
    ],
)
def test_a_title_tells_which_line_it_means_only_where_no_other_line_went(
    files: list[FileChange], answered: bool
) -> None:
    found = records(pull(title="Fix hard-coded password", files=files), options(findings=[SECRET]))
    assert ("findings" in found[0]) is answered


def test_code_that_is_too_long_is_cut_and_says_so() -> None:
    body = "\n".join(f"-line {number}" for number in range(9))
    change = FileChange("a.sh", "modified", 0, 9, f"@@ -1,9 +0,0 @@\n{body}")
    (found,) = records(pull(files=[change], notes=["files are missing"]), options(code_lines=3))
    assert found["code"] == "line 0\nline 1\nline 2"
    assert found["notes"] == ["files are missing", "the code is cut after 3 of 9 lines"]


def test_a_finding_beyond_the_cut_is_left_out() -> None:
    hunk = "@@ -0,0 +1,9 @@\n" + "\n".join(f"+line {number}" for number in range(9))
    said = ReviewComment("scripts/new.sh", 9, "a hard-coded password", "jane", hunk)
    found = records(pull(files=[FILES[1]], comments=[said]), options(findings=[SECRET], code_lines=3))
    assert "findings" not in found[0] and "risk" not in found[0]


def test_a_whole_pull_request_tells_the_failure_the_toil_and_the_automation() -> None:
    files = [new_file("automations/consumer.yaml", AUTOMATION)]
    (found,) = records(pull(body=BODY, files=files), options(record="pull_request"))
    assert found["id"] == "acme/shop#7"
    assert found["failure"] == "The consumer hangs."
    assert found["signals"] == {"ConsumerBehind": "9 of 9"}
    assert found["manual_steps"] == ["look at the lag", "restart the consumer"]
    assert found["automation"] == {
        "name": "restart a hanging consumer",
        "trigger": "ConsumerBehind",
        "steps": [{"function": "check", "when": "lag grows"}, {"function": "restart_consumer"}],
        "rollback": {"function": "page", "when": "it comes back"},
    }
    assert found["files"][0]["kind"] == "configuration"


@pytest.mark.parametrize(
    "files",
    [
        [new_file("src/consumer.yaml", AUTOMATION)],
        [new_file("automations/a.yaml", AUTOMATION), new_file("automations/b.yaml", AUTOMATION)],
        [new_file("automations/a.yaml", AUTOMATION.replace("rollback", "else"))],
        [new_file("automations/a.yaml", "jobs: [build]")],
        [new_file("automations/a.yaml", "steps: [{uses: checkout}]\nname: x\ntrigger: y\nrollback: page")],
        [new_file("automations/a.yaml", "a: [")],
        [new_file("automations/a.sh", "#!/bin/sh\nls")],
        [FileChange("automations/a.yaml", "modified", 1, 0, "@@ -1 +1 @@\n+name: x")],
    ],
)
def test_without_one_new_file_that_describes_it_there_is_no_automation(files: list[FileChange]) -> None:
    assert "automation" not in records(pull(files=files), options(record="pull_request"))[0]
