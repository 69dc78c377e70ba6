from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from opstune.skills import get
from opstune.skills.functions import functions
from opstune.skills.workflow import VERBS, in_order, known

CONTEXT = {
    "failure": "the consumer hangs",
    "signals": {"ConsumerBehind": "9 of 9", "NodeRebooted": "1 of 9"},
    "manual_steps": ["looked at the lag", "restarted the consumer", "told the channel"],
}
ANSWER = {
    "name": "restart a hanging consumer",
    "trigger": "ConsumerBehind",
    "steps": [
        {"function": "check", "when": "lag grows"},
        {"function": "restart_consumer", "when": ""},
        {"function": "notify", "when": "channel"},
    ],
    "rollback": {"function": "page", "when": "lag still grows"},
}
RIGHT = {"correct": True, "steps": True, "trigger": True, "rollback": True}


def steps(*names: str) -> list[dict[str, str]]:
    return [{"function": name, "when": ""} for name in names]


def test_steps_are_functions_of_the_catalogue_or_verbs_and_never_nothing() -> None:
    assert known() == [*(name for name in functions() if name != "none"), *VERBS]
    assert not set(functions()) & set(VERBS)


@pytest.mark.parametrize("function", ["none", "reboot_universe", ""])
def test_a_step_that_nothing_can_run_is_refused_in_words(function: str) -> None:
    with pytest.raises(ValidationError, match=r"functions\.yaml"):
        get("workflow").answer_model.model_validate({**ANSWER, "steps": steps(function)})


@pytest.mark.parametrize("missing", ["name", "trigger", "steps", "rollback"])
def test_a_draft_without_a_way_back_or_another_part_is_no_draft(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        get("workflow").answer_model.model_validate({key: ANSWER[key] for key in ANSWER if key != missing})


@pytest.mark.parametrize("signals", [["a", "b"], {"a": "9 of 9", "b": "1 of 9"}])
def test_an_automation_starts_on_a_signal_that_was_seen(signals: Any) -> None:
    assert get("workflow").schema({**CONTEXT, "signals": signals})["properties"]["trigger"] == {"enum": ["a", "b"]}


def test_where_no_signal_was_seen_the_trigger_is_free_text() -> None:
    assert get("workflow").schema({**CONTEXT, "signals": []})["properties"]["trigger"]["type"] == "string"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, set()),
        ({"name": "another name"}, set()),
        ({"steps": steps("check", "restart_consumer", "notify")}, set()),
        ({"steps": steps("check", "restart_consumer", "wait", "notify")}, set()),
        ({"steps": steps("notify", "restart_consumer", "check")}, {"correct", "steps"}),
        ({"steps": steps("check", "restart_pod", "notify")}, {"correct", "steps"}),
        ({"trigger": "NodeRebooted"}, {"correct", "trigger"}),
        ({"rollback": {"function": "stop", "when": "lag still grows"}}, {"rollback"}),
    ],
)
def test_each_part_of_a_draft_is_scored_by_itself(changes: dict[str, Any], wrong: set[str]) -> None:
    scores = get("workflow").score(ANSWER, {**ANSWER, **changes})
    assert scores == {name: name not in wrong for name in RIGHT}


def test_an_invalid_draft_does_nothing() -> None:
    assert get("workflow").score(ANSWER, None) == dict.fromkeys(RIGHT, False)


def test_the_order_of_steps_counts() -> None:
    assert in_order(["a", "b", "c"], ["a", "b", "c"]) == 1.0
    assert in_order(["a", "b", "c"], ["c", "b", "a"]) < in_order(["a", "b", "c"], ["a", "c"]) < 1.0


@pytest.mark.parametrize(
    ("names", "label"), [(("check", "scale_out", "restart_pod"), "scale_out"), (("check", "page"), "check")]
)
def test_the_label_is_the_first_function_that_acts(names: tuple[str, ...], label: str) -> None:
    assert get("workflow").label({**ANSWER, "steps": steps(*names)}) == label
