"""What a Linear issue becomes as a record, and what its source file may say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from opstune.collect.alerts.actions import ActionSource, as_action
from opstune.collect.issues.linear import LinearOptions
from opstune.collect.issues.linear_cost import BUDGET, cost, largest_page
from opstune.collect.issues.linear_issue import Issue, record
from opstune.collect.kinds import KINDS
from opstune.collect.prose.action_text import CommandRule

SEVERITIES = LinearOptions().severities


def page(*nodes: Any) -> dict[str, Any]:
    return {"nodes": list(nodes), "pageInfo": {"hasNextPage": False, "endCursor": None}}


def note(body: str, hour: int, by: str = "user") -> dict[str, Any]:
    return {"body": body, "createdAt": f"2026-03-01T{hour:02d}:00:00.000Z", by: {"name": "Jane"}}


NODE: dict[str, Any] = {
    "id": "u-1",
    "identifier": "OPS-7",
    "title": "checkout is down",
    "description": None,
    "url": "https://linear.app/acme/issue/OPS-7",
    "priority": 0,
    "priorityLabel": "No priority",
    "createdAt": "2026-03-01T10:00:00.000Z",
    "startedAt": None,
    "completedAt": "2026-03-01T12:00:00.000Z",
    "archivedAt": None,
    "updatedAt": "2026-03-01T12:00:00.000Z",
    "state": {"name": "Done"},
    "team": {"key": "OPS"},
    "assignee": None,
    "parent": None,
    "labels": page(),
    "attachments": page(),
    "comments": page(),
    "history": page(),
}


def issue(**changes: Any) -> Issue:
    return Issue.model_validate({**NODE, **changes})


def test_an_issue_that_tells_nothing_has_only_what_linear_knows() -> None:
    assert record(issue(), SEVERITIES, []) == {
        "id": "u-1",
        "identifier": "OPS-7",
        "incident": "OPS-7",
        "title": "checkout is down",
        "url": "https://linear.app/acme/issue/OPS-7",
        "state": "Done",
        "team": "OPS",
        "created_at": "2026-03-01T10:00:00+00:00",
        "completed_at": "2026-03-01T12:00:00+00:00",
        "updated_at": "2026-03-01T12:00:00+00:00",
        "symptoms": ["checkout is down"],
        "acted_at": "2026-03-01T12:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"priority": 1, "priorityLabel": "Urgent"}, "SEV-0"),
        ({"priority": 4, "priorityLabel": "Low"}, "SEV-3"),
        ({"priority": 4, "priorityLabel": "Low", "description": "Severity: sev 1"}, "SEV-1"),
        ({"description": "Severity: sev1", "labels": page({"name": "Incident"}, {"name": "SEV2"})}, "SEV-2"),
        ({"title": "[SEV-1] checkout is down", "priority": 4, "priorityLabel": "Low"}, "SEV-1"),
        ({"description": "Severity: purple"}, None),
        ({}, None),
    ],
)
def test_a_label_goes_before_the_text_and_the_text_before_the_priority(
    changes: dict[str, Any], severity: str | None
) -> None:
    assert record(issue(**changes), SEVERITIES, []).get("severity") == severity


def test_a_sub_issue_belongs_to_its_parents_incident() -> None:
    assert record(issue(parent={"identifier": "OPS-1"}), SEVERITIES, [])["incident"] == "OPS-1"


def test_comments_are_read_in_the_order_of_time_whoever_wrote_them() -> None:
    comments = page(
        note("Root cause: a cable", 12, "externalUser"),
        note("Root cause: the disk", 11),
        note("Root cause: aliens", 13, "botActor"),
    )
    found = record(issue(comments=comments), SEVERITIES, [])
    assert found["root_cause"] == "a cable"
    assert [(one["at"][11:13], one["person"]) for one in found["comments"]] == [
        ("11", True),
        ("12", True),
        ("13", False),
    ]


def test_what_was_done_carries_the_time_at_which_it_was_told() -> None:
    comments = page(note("restart_pod(namespace=pay, pod=api-1)", 11), note("thanks", 12))
    found = record(issue(comments=comments), SEVERITIES, [])
    assert (found["function"], found["parameters"], found["outcome"], found["acted_at"]) == (
        "restart_pod",
        {"namespace": "pay", "pod": "api-1"},
        "success",
        "2026-03-01T11:00:00+00:00",
    )


def test_what_the_description_says_was_done_carries_the_time_of_completion() -> None:
    rules = [CommandRule(re.compile(r"kubectl drain (?P<node>\S+)"), "drain_node")]
    found = record(issue(description="## Fix\n```\n$ kubectl drain n4\n```"), SEVERITIES, rules)
    assert (found["function"], found["parameters"]) == ("drain_node", {"node": "n4"})
    assert found["acted_at"] == found["completed_at"]


def test_a_closed_issue_is_an_action_that_an_alert_can_be_joined_with() -> None:
    rules = {
        "kind": "linear",
        "connection": "opstune_linear",
        "fields": {
            "id": "id",
            "at": "acted_at",
            "alert": "alert",
            "labels": "alert_labels",
            "function": "function",
            "parameters": "parameters",
            "outcome": "outcome",
            "incident": "incident",
            "notes": "mitigation",
        },
    }
    source = ActionSource.model_validate(rules, context={"kinds": KINDS})
    comments = page(note("restart_pod(namespace=pay, pod=api-1) fixed it", 11))
    text = "Labels:\n - alertname = PodDown\n - pod = api-1\n"
    told = record(issue(description=text, comments=comments), SEVERITIES, [])
    action = as_action("linear", source, told, datetime(2026, 4, 1, tzinfo=UTC))
    assert (action.alert, action.labels, action.function) == ("PodDown", {"pod": "api-1"}, "restart_pod")
    assert (action.outcome, action.incident, action.at) == ("success", "OPS-7", 1772362800000)
    silent = as_action("linear", source, record(issue(), SEVERITIES, []), datetime(2026, 4, 1, tzinfo=UTC))
    assert (silent.alert, silent.function) == (None, None)


def test_that_nothing_was_needed_is_an_action_without_parameters() -> None:
    found = record(issue(comments=page(note("False alarm, no action needed.", 11))), SEVERITIES, [])
    assert (found["function"], found["parameters"]) == ("none", {})


def test_an_issue_that_was_reopened_says_so() -> None:
    moves = [("Todo", "Done"), ("Done", "Todo"), ("Todo", "Done")]
    history = page(
        *(
            {"createdAt": f"2026-03-01T1{hour}:00:00Z", "fromState": {"name": old}, "toState": {"name": new}}
            for hour, (old, new) in enumerate(moves)
        )
    )
    assert record(issue(history=history), SEVERITIES, [])["reopened"] is True
    assert "reopened" not in record(issue(history=page(history["nodes"][0])), SEVERITIES, [])


def test_links_on_an_issue_tell_its_alert_and_its_dashboards() -> None:
    attachments = page(
        {"title": "alert", "url": "https://alerts.example/#/alerts?filter=%7Balertname%3D%22DiskFull%22%7D"},
        {"title": "board", "url": "https://grafana.example/d/x/disks", "sourceType": "grafana"},
    )
    found = record(issue(attachments=attachments), SEVERITIES, [])
    assert (found["alert"], found["telemetry_links"]) == ("DiskFull", ["https://grafana.example/d/x/disks"])


def test_the_largest_page_costs_no_more_than_linear_allows() -> None:
    first = largest_page(250)
    assert cost("Issues", {"first": first}) <= BUDGET < cost("Issues", {"first": first + 1})
    assert largest_page(3) == 3


def test_a_pattern_that_is_none_is_told() -> None:
    with pytest.raises(ValidationError, match="the pattern is no regular expression"):
        LinearOptions.model_validate({"commands": [{"pattern": "(", "function": "drain_node"}]})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TIMES = st.sampled_from(["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-12:00", "2026-03-01T10:00:00", "soon"])


@settings(max_examples=500, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(NODE)), _JSON | _TIMES, max_size=4), note_at=_TIMES)
def test_whatever_linear_sends_becomes_a_record_or_a_fault_in_words(changes: dict[str, Any], note_at: str) -> None:
    node = {**NODE, "comments": page(note("Fix: x", 10), {**note("Why: y", 10), "createdAt": note_at}), **changes}
    try:
        found = record(Issue.model_validate(node), SEVERITIES, [])
    except ValidationError as error:
        assert error.errors()
    else:
        assert found["id"] == node["id"]
