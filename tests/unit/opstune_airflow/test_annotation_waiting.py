"""The trigger that watches Label Studio: when it fires, what it says meanwhile, and that it survives the way to the
triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opstune.annotate import Progress
from opstune.errors import AccessDenied, OpstuneError, ServiceDown, Throttled
from opstune_airflow import waiting
from opstune_airflow.waiting import AnnotationTrigger

START = datetime(2026, 11, 21, 3, tzinfo=UTC)
DOWN = ServiceDown("Label Studio does not answer", "GET /api", "Check that it runs.")


class Watched(AnnotationTrigger):
    """Label Studio answers with these in turn, the last one for ever; time moves on by a poll each time."""

    def __init__(self, answers: Sequence[Any], *, goal: dict[str, int] | None, hours: float = 1.0) -> None:
        super().__init__(goal, (START + timedelta(hours=hours)).isoformat(), 60.0)
        self.answers, self.asked = list(answers), 0

    async def _progress(self) -> list[Progress]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, OpstuneError):
            raise answer
        return [Progress("remediation", *answer)] if answer else []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the start; sleeping moves it on."""
    passed = [0.0]

    async def sleep(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(waiting.asyncio, "sleep", sleep)
    monkeypatch.setattr(waiting, "_now", lambda: START + timedelta(seconds=passed[0]))
    return passed


def fired(trigger: AnnotationTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(trigger.run())

    return dict(asyncio.run(first()).payload)


@pytest.mark.parametrize(
    ("answers", "goal", "late", "told", "minutes"),
    [
        ([(3, 3)], {"remediation": 3}, False, "3 of 3 tasks are done", 0),
        ([(1, 3), (2, 3), (3, 3)], {"remediation": 3}, False, "3 of 3 tasks are done", 2),
        ([(1, 3), (3, 9)], {"remediation": 3}, False, "3 of 3 tasks are done", 1),
        ([(1, 3)], {"remediation": 3}, True, "1 of 3 tasks are done", 60),
        ([DOWN, DOWN, (3, 3)], {"remediation": 3}, False, "3 of 3", 2),
        ([Throttled("slow down"), (3, 3)], {"remediation": 3}, False, "3 of 3", 1),
        ([DOWN], {"remediation": 3}, True, "Label Studio does not answer", 60),
        ([DOWN, (1, 2), (2, 5)], None, False, "2 of 2 tasks are done", 2),
        ([None], {}, False, "0 of 0 tasks", 0),
    ],
)
def test_it_fires_when_people_are_done_or_at_the_end(
    clock: list[float], answers: list[Any], goal: dict[str, int] | None, late: bool, told: str, minutes: int
) -> None:
    event = fired(Watched(answers, goal=goal))
    assert event["late"] is late and told in event["told"]
    assert clock[0] == minutes * 60


def test_a_fault_that_waiting_cannot_cure_ends_the_wait(clock: list[float]) -> None:
    event = fired(
        Watched([(1, 3), AccessDenied("the token is refused", "x", "Make a new one.")], goal={"remediation": 3})
    )
    assert event == {"problem": "the token is refused (x). Make a new one."}


def test_it_says_how_far_people_are_every_few_minutes(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    fired(Watched([(1, 3)], goal={"remediation": 3}, hours=0.25))
    lines = [line for line in capsys.readouterr().out.splitlines() if "tasks are done" in line]
    assert len(lines) == 3
    told = "1 of 3 tasks are done in Label Studio (remediation 1 of 3); waits until 2026-11-21 03:15 UTC at the latest"
    assert told in lines[0]


def test_it_is_the_same_trigger_in_the_triggerer_and_carries_no_secret() -> None:
    path, fields = AnnotationTrigger({"remediation": 3}, START.isoformat(), 60.0).serialize()
    assert path == f"{AnnotationTrigger.__module__}.{AnnotationTrigger.__name__}"
    assert AnnotationTrigger(**fields).serialize() == (path, fields)
    assert set(fields) == {"goal", "end", "poll_seconds"}


def test_a_connection_that_was_taken_away_is_told() -> None:
    with pytest.raises(OpstuneError, match=r"opstune_label_studio is gone.*clear this task"):
        waiting._progress(None)
