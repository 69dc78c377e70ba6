"""Prompts, contextual schemas and scoring: what each skill promises."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from opstune.errors import ConfigError
from opstune.skills import SKILLS, get
from opstune.skills.base import messages, similarity, target
from opstune.skills.functions import functions
from opstune.skills.log_error import statements

ALERT = {"alert": "QueueStuck", "severity": "high", "labels": {"namespace": "shop", "pod": "cart-1", "team": "blue"}}
RESTART = {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-1"}}
ALL_RIGHT = {"parameters": True, "parameter_namespace": True, "parameter_pod": True}
NOTHING = {"function": "none", "parameters": {}}
LOG = "2026-01-02 10:00:00,123 INFO start\n[2026-01-02T10:00:01Z] ERROR - disk is full\nERROR disk is full\n\n"


def _valid(skill: str, context: dict[str, Any], answer: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(get(skill).schema(context)).is_valid(answer)


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        (RESTART, True),
        (NOTHING, True),
        ({"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-2"}}, False),
        ({"function": "restart_pod", "parameters": {"pod": "cart-1"}}, False),
        ({"function": "restart_pod", "parameters": {**RESTART["parameters"], "force": "blue"}}, False),
        ({"function": "delete_cluster", "parameters": {}}, False),
        ({"function": "none", "parameters": {"pod": "cart-1"}}, False),
    ],
)
def test_a_remediation_can_name_nothing_that_the_alert_does_not(answer: dict[str, Any], valid: bool) -> None:
    assert _valid("remediation", ALERT, answer) is valid


def test_an_alert_without_labels_allows_no_function_that_needs_one() -> None:
    assert _valid("remediation", {"alert": "X"}, NOTHING)
    assert not _valid("remediation", {"alert": "X"}, RESTART)


@pytest.mark.parametrize(
    ("expected", "predicted", "scores"),
    [
        (RESTART, RESTART, {"correct": True, "function": True, "false_negative": False, **ALL_RIGHT}),
        (
            RESTART,
            {"function": "restart_pod", "parameters": {"namespace": " shop", "pod": "cart-1\n"}},
            {"correct": True, "function": True, "false_negative": False, **ALL_RIGHT},
        ),
        (
            RESTART,
            {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "blue"}},
            {
                "correct": False,
                "function": True,
                "false_negative": False,
                "parameters": False,
                "parameter_namespace": True,
                "parameter_pod": False,
            },
        ),
        (RESTART, NOTHING, {"correct": False, "function": False, "false_negative": True}),
        (
            RESTART,
            None,
            {"correct": False, "function": False, "false_negative": True, **dict.fromkeys(ALL_RIGHT, False)},
        ),
        (NOTHING, NOTHING, {"correct": True, "function": True, "false_positive": False}),
        (NOTHING, RESTART, {"correct": False, "function": False, "false_positive": True}),
        (NOTHING, None, {"correct": False, "function": False, "false_positive": False}),
    ],
)
def test_remediation_scores(
    expected: dict[str, Any], predicted: dict[str, Any] | None, scores: dict[str, bool]
) -> None:
    assert get("remediation").score(expected, predicted) == scores


def test_a_log_message_is_one_of_the_logs_own_lines() -> None:
    assert statements(LOG) == ["start", "disk is full"]
    answer = {"message": "disk is full", "category": "resource", "severity": "high", "confidence": "high"}
    assert _valid("log_error", {"log": LOG}, answer)
    assert not _valid("log_error", {"log": LOG}, {**answer, "message": "disk was full"})


def test_triage_counts_a_root_cause_only_where_one_is_known() -> None:
    skill = get("triage")
    assert "root_cause" not in skill.score({"severity": "SEV-1"}, {"severity": "SEV-1"})
    expected = {"severity": "SEV-1", "root_cause": "memory leak in cart-api after release 4.2"}
    assert skill.score(expected, {**expected, "severity": "SEV-2"}) == {
        "correct": False,
        "severity": False,
        "root_cause": True,
    }
    assert skill.score(expected, {"severity": "SEV-1", "root_cause": "expired certificate"})["root_cause"] is False


@pytest.mark.parametrize(
    ("left", "right", "least", "most"), [("a b", "a b", 1, 1), ("a b", "c d", 0, 0), ("a b c", "a b d", 0.6, 0.7)]
)
def test_similarity_is_the_share_of_words_in_order(left: str, right: str, least: float, most: float) -> None:
    assert least <= similarity(left, right) <= most


@pytest.mark.parametrize("skill", SKILLS.values(), ids=lambda skill: skill.name)
def test_a_prompt_says_the_task_and_holds_the_context(skill: Any) -> None:
    chat = messages(skill, {"title": "T1", "alert": "A1", "log": "one\ntwo", "labels": {"k": "v"}, "empty": ""})
    assert [message["role"] for message in chat] == ["system", "user"]
    user = chat[1]["content"]
    assert user.startswith("task: ")
    assert "log:\n  one\n  two" in user and "labels:\n  k: v" in user and "empty" not in user


def test_the_target_is_compact_json() -> None:
    assert target(RESTART) == '{"function":"restart_pod","parameters":{"namespace":"shop","pod":"cart-1"}}'


def test_a_function_outside_the_catalogue_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"functions\.yaml"):
        get("remediation").answer_model.model_validate({"function": "reboot_world", "parameters": {}})


def test_an_unknown_skill_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="remediation"):
        get("juggling")


#: Answers that between them let every metric of their skill count.
TELLING: dict[str, list[dict[str, Any]]] = {
    "remediation": [{"function": name, "parameters": dict.fromkeys(takes, "x")} for name, takes in functions().items()],
    "triage": [{"severity": "SEV-1", "root_cause": "the disk is full"}],
    "log_error": [{"message": "disk is full", "category": "resource", "severity": "high"}],
    "diagnosis": [{"root_cause": "full", "query": "up", "critical_paths": ["a > b"], "remediation": ["clean it"]}],
    "audit": [{"risk": "high", "security_impact": "anyone", "root_cause": "a wide role", "actions": ["narrow it"]}],
    "code_review": [{"findings": [{"kind": "other", "line": "x = 1"}], "risk": "low"}],
    "workflow": [{"trigger": "a", "steps": [{"function": "stop"}], "rollback": {"function": "stop"}}],
}


@pytest.mark.parametrize("name", SKILLS)
def test_a_skill_scores_what_it_lists_as_its_metrics_and_nothing_else(name: str) -> None:
    skill = get(name)
    assert {metric for answer in TELLING[name] for metric in skill.score(answer, answer)} == set(skill.metrics)
    assert {metric for answer in TELLING[name] for metric in skill.score(answer, None)} <= set(skill.metrics)
