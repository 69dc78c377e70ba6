"""The tasks of annotation where there is no Label Studio: nothing is asked, nothing waits."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from opstune.errors import DataError, InputError, ServiceDown
from opstune_airflow import annotation, settings, tasks
from opstune_airflow.annotation import AnnotationWait
from opstune_airflow.waiting import AnnotationTrigger

REPORTS = [{"source": "alerts"}]


class Instance:
    """What a task leaves behind."""

    def __init__(self) -> None:
        self.left: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[key] = value


@pytest.fixture
def context() -> dict[str, Any]:
    return {"params": {"wait_for_annotation": True}, "ti": Instance()}


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "as_connection", lambda name: None)


def wait() -> AnnotationWait:
    return AnnotationWait(task_id="annotation", reports=REPORTS)


def test_not_asked_to_wait_nothing_is_looked_at(context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "load", None)
    context["params"]["wait_for_annotation"] = False
    assert wait().execute(context) == REPORTS
    assert context["ti"].left == {}


def test_without_label_studio_nobody_is_waited_for_and_the_note_says_so(context: dict[str, Any]) -> None:
    assert wait().execute(context) == REPORTS
    assert context["ti"].left["note"] == "There is no connection opstune_label_studio, so nobody was waited for."


@pytest.mark.parametrize("task", [tasks.pull_annotation, tasks.push_annotation])
def test_without_label_studio_a_task_is_skipped_with_words(
    task: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "get_current_context", lambda: context)
    with pytest.raises(AirflowSkipException, match="no connection opstune_label_studio: annotation is off"):
        task("remediation")


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Label Studio that is connected and does not run."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://:token@127.0.0.1:{closed.getsockname()[1]}"
    found = {settings.LABEL_STUDIO: {"url": url}}
    monkeypatch.setattr(settings, "as_connection", found.get)
    monkeypatch.setenv("OPSTUNE__ANNOTATE__PATIENCE__ATTEMPTS", "1")


def test_a_label_studio_that_is_down_is_waited_for_too(context: dict[str, Any], down: None) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        wait().execute(context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, AnnotationTrigger) and trigger.goal is None
    left = datetime.fromisoformat(trigger.end) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=55) < left <= timedelta(hours=24)
    assert deferred.value.timeout and deferred.value.timeout > left
    assert deferred.value.method_name == "resume"


@pytest.mark.parametrize("late", [True, False])
def test_answers_that_cannot_be_fetched_are_tried_again_until_the_end(
    late: bool, context: dict[str, Any], down: None
) -> None:
    event = {"late": late, "told": "1 of 3 tasks are done"}
    if late:
        assert wait().resume(context, event) == REPORTS
    else:
        with pytest.raises(ServiceDown, match="Label Studio does not answer"):
            wait().resume(context, event)


@pytest.mark.parametrize("when_late", ["go_on", "stop"])
def test_after_the_wait_it_goes_on_or_stops_as_configured(
    when_late: str, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSTUNE__ANNOTATE__WHEN_LATE", when_late)
    monkeypatch.setenv("OPSTUNE__ANNOTATE__WAIT_HOURS", "6")
    event = {"late": True, "told": "1 of 3 tasks are done in Label Studio"}
    if when_late == "stop":
        with pytest.raises(DataError, match=r"waited for 6 hours: 1 of 3 tasks.*annotate\.when_late"):
            wait().resume(context, event)
    else:
        assert wait().resume(context, event) == REPORTS
        assert "waited for 6 hours" in context["ti"].left[annotation.run_note.KEY]


def test_people_who_are_done_leave_no_note(context: dict[str, Any]) -> None:
    assert wait().resume(context, {"late": False, "told": "3 of 3 tasks are done"}) == REPORTS
    assert context["ti"].left == {}


def test_a_token_that_was_taken_away_is_for_a_person(context: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the token is refused"):
        wait().resume(context, {"problem": "the token is refused."})
