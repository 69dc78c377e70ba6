"""What on-call reads when a task has failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import RetryAction
from alert_channel import alert_channel

from opstune import errors
from opstune.train import attempts
from opstune.train.attempts import Attempts
from opstune.train.spec import Halving
from opstune.train.story import Story, explain
from opstune_airflow import catalog, notifier, retries, settings

RUN = "manual__2026-11-02T03:00:00.5+00:00"


FRESH = Attempts(asked="x")


def context(error: Exception | None, task_id: str = "train.adapter", try_number: int = 2) -> dict[str, Any]:
    task = SimpleNamespace(task_id=task_id, dag_id="retrain_weekly", try_number=try_number, max_tries=3)
    return {"ti": task, "dag_run": SimpleNamespace(dag_id="retrain_weekly", run_id=RUN), "exception": error}


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A real channel that keeps what it is sent."""
    with alert_channel() as (address, heard):
        monkeypatch.setattr(settings, "connection_url", lambda name: f"{address}/hook")
        yield heard


STORY = Story(step=120, of=300, saved=100, batch_size=8, log=Path("trainer.log"))
BEFORE = {
    errors.Diverged: Attempts(asked="x", halvings=(Halving(diverged_at=90, since=50, why="the loss is nan"),)),
    errors.DriverFault: Attempts(asked="x", driver_faults=1),
}


def failure(kind: type[errors.OpstuneError], left: Attempts, story: Story = STORY) -> errors.OpstuneError:
    """The error as a training raises it."""
    _, error = attempts.after(left, kind("it broke"), story)
    return explain(error, story)


def outcome(error: Exception, try_number: int, max_tries: int = 3) -> tuple[bool, RetryAction]:
    """(final, what the policy decides), as Airflow's task runner puts the two together."""
    action = retries.POLICY.evaluate(error, try_number, max_tries).action
    return action is not RetryAction.RETRY or try_number > max_tries, action


ALL = [
    errors.OutOfMemory, errors.OutOfHostMemory, errors.TrainerKilled, errors.TrainerStopped, errors.Diverged,
    errors.DriverFault, errors.DiskFull, errors.TrainerFailed, errors.DataError, errors.ConfigError, errors.ServiceDown,
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("tried_before", [False, True])
@pytest.mark.parametrize("try_number", [1, 3, 4])
def test_what_is_told_to_come_next_is_what_the_policy_does(
    own_home: Path, kind: type[errors.OpstuneError], tried_before: bool, try_number: int
) -> None:
    left = BEFORE.get(kind, FRESH) if tried_before else FRESH
    story = replace(STORY, batch_size=1) if tried_before else STORY
    error = failure(kind, left, story)
    final, action = outcome(error, try_number)
    told = notifier.summary(context(error, try_number=try_number), final)
    comes_next = told["what comes next"]
    assert list(told) == ["what broke", "where", "what was saved", "what comes next", "what to do"]
    assert not any("\n" in answer for answer in told.values())
    if not final:
        stopped = isinstance(error, errors.TrainerStopped)  # perhaps by a person, who marked the task: nobody says
        begins = "If a person marked this task: nothing" if stopped else "Tried again in "
        assert comes_next.startswith(begins) and f"attempt {try_number + 1} of 4" in comes_next
        assert "not tried again" not in comes_next
    elif action is RetryAction.FAIL:
        assert comes_next.startswith("Nothing: it fails at once.")
        assert "A retry" not in comes_next and "no retry is left" not in comes_next
    else:
        assert "no retry is left" in comes_next and "champion stays" in comes_next
    if isinstance(error, errors.TrainingError | errors.DiskFull):
        assert "at step 120 of 300" in told["what broke"]
        assert "The checkpoint of step 100 is saved." in told["what was saved"]


NIGHT = [
    (
        errors.OutOfMemory,
        1,
        "Tried again in 10 s, as attempt 2 of 4. A retry resumes from step 100 with 4 instead of 8",
    ),
    (errors.Diverged, 1, "as attempt 2 of 4. A retry resumes from step 100 at half the learning rate, once."),
    (errors.DiskFull, 1, "Tried again in 10 min, as attempt 2 of 4. A retry resumes from step 100."),
    (errors.DiskFull, 4, "no retry is left; clearing the task starts anew. A retry resumes from step 100."),
    (errors.TrainerFailed, 1, "Nothing: it fails at once. It is not tried again: a bug"),
]


@pytest.mark.parametrize(("kind", "try_number", "words"), NIGHT)
def test_on_call_reads_when_it_goes_on_and_how(
    own_home: Path, kind: type[errors.OpstuneError], try_number: int, words: str
) -> None:
    error = failure(kind, FRESH)
    told = notifier.summary(context(error, try_number=try_number), outcome(error, try_number)[0])
    assert words in told["what comes next"]
    assert told["what to do"] == error.todo


def test_a_failure_says_what_broke_where_what_was_saved_and_what_to_do(own_home: Path) -> None:
    folder = own_home / "runs" / catalog.run_folder("retrain_weekly", RUN)
    for made in ("dataset/manifest.json", "checkpoints/checkpoint-50/x", "checkpoints/checkpoint-100/x"):
        path = folder / (made if made.startswith("dataset") else f"train.work/{made}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "train.work" / "unfinished" / "checkpoint-150").mkdir(parents=True)  # half-written: not saved
    told = notifier.summary(context(errors.ServiceDown("MLflow did not answer", "tracking", "Look at it.")), final=True)
    assert told["what broke"] == "MLflow did not answer"
    assert "train.adapter" in told["where"] and "tracking" in told["where"] and "attempt 2 of 4" in told["where"]
    assert told["what was saved"].startswith("dataset, training up to step 100 (in ")
    assert "champion stays" in told["what comes next"]
    assert told["what to do"] == "Look at it."


@pytest.mark.parametrize("final", [True, False])
def test_a_task_that_was_ended_from_outside_is_no_riddle(own_home: Path, final: bool) -> None:
    told = notifier.summary(context(None), final)
    assert "killed, marked failed" in told["what broke"]
    assert told["what comes next"].startswith("Nothing." if final else "Tried again, as attempt 3 of 4.")


@pytest.mark.parametrize("final", [True, False])
def test_only_the_last_failure_reaches_the_alert_channel(alerts: list[dict[str, Any]], final: bool) -> None:
    notifier.FailureSummary(final).notify(context(ValueError("a bug")))
    assert [alert["what broke"] for alert in alerts] == (["ValueError: a bug"] if final else [])


def test_an_error_without_advice_gets_the_advice_of_its_stage() -> None:
    told = notifier.summary(context(ValueError("a bug"), "convert.gguf"), final=True)
    assert told["what to do"] == notifier.WHEN_IT_FAILS["convert"]


def test_a_dead_alert_channel_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "connection_url", lambda name: "http://me:secret@127.0.0.1:9/hook")
    notifier.send({"what broke": "x"})
    assert "could not be sent" in caplog.text and "secret" not in caplog.text
