"""A hosted training under Airflow: begun by the task, waited for by the trigger, cancelled with the task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from fault_server import FAULTS, FaultServer
from openai_server import KEY, MODEL, OpenAI
from test_openai_backend import dataset_of

from opstune import settings as configuration
from opstune.artifacts import Ref
from opstune.errors import EvaluationError, ExportError, InputError, ServiceDown, TrainerFailed
from opstune.pipeline import Run, convert, evaluate
from opstune.security import signing
from opstune_airflow import hosted
from opstune_airflow.hosted_waiting import HostedTrigger

PATIENCE = {"timeout_seconds": 0.3, "attempts": 1, "backoff_seconds": 0}


class Waiting(HostedTrigger):
    """The trigger with a connection that is given rather than asked of Airflow; none when it was removed."""

    given: str | None = None

    async def _connection(self) -> dict[str, str] | None:
        return {"url": self.given} if self.given else None


@pytest.fixture
def openai() -> OpenAI:
    return OpenAI()


@pytest.fixture
def server(openai: OpenAI) -> Iterator[FaultServer]:
    with FaultServer(openai) as made:
        yield made


@pytest.fixture
def url(server: FaultServer) -> str:
    return server.url.replace("://", f"://:{KEY}@")


@pytest.fixture
def run(tmp_path: Path, url: str) -> Run:
    train = {"profile": "openai", "allow_data_to_leave": True, "hosted": {"poll_seconds": 0, "patience": PATIENCE}}
    connections = {"opstune_openai": {"url": url}}
    return Run("r", "full", configuration.load({"home": tmp_path, "train": train, "connections": connections}))


@pytest.fixture
def dataset(tmp_path: Path, run: Run) -> Ref:
    return signing.signed(tmp_path / "dataset", run.settings.keys_dir, lambda: dataset_of(tmp_path / "dataset", 12))


@pytest.fixture
def task(run: Run, dataset: Ref, monkeypatch: pytest.MonkeyPatch) -> hosted.TrainAnywhereOperator:
    monkeypatch.setattr(hosted.tasks, "open_run", lambda _plan: run)
    monkeypatch.setattr(hosted.TrainAnywhereOperator, "_connected", lambda _task, _context, given: given)
    monkeypatch.setattr(hosted.assets, "describe", lambda *_asset, **_facts: None)
    return hosted.TrainAnywhereOperator(task_id="adapter", plan={}, refs={"dataset": dataset.model_dump()})


def begin(task: hosted.TrainAnywhereOperator) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    return deferred.value


def fired(trigger: HostedTrigger, url: str | None) -> dict[str, Any]:
    """The event of a trigger that went the way to the triggerer."""
    _, fields = trigger.serialize()
    there = Waiting(**fields)
    there.given = url

    async def first() -> Any:
        return await anext(there.run())

    return dict(asyncio.run(first()).payload)


def test_a_job_is_begun_waited_for_without_a_worker_and_brought_back(
    task: hosted.TrainAnywhereOperator, openai: OpenAI, url: str
) -> None:
    deferred = begin(task)
    assert deferred.method_name == "resume" and openai.jobs["ftjob-1"]["status"] == "validating_files"
    event = fired(deferred.trigger, url)
    assert event == {"late": False, "told": "The job ftjob-1 is succeeded"}
    ref = Ref.model_validate(task.resume({}, event))
    assert ref.kind == "hosted" and len(openai.posted) == 1


def test_a_retried_task_waits_for_the_same_job(task: hosted.TrainAnywhereOperator, openai: OpenAI) -> None:
    assert [begin(task).trigger.job for _ in range(2)] == ["ftjob-1", "ftjob-1"]
    assert len(openai.posted) == 1


def test_a_killed_wait_cancels_the_job_and_a_cleared_task_begins_another(
    task: hosted.TrainAnywhereOperator, openai: OpenAI, url: str
) -> None:
    there = Waiting(**begin(task).trigger.serialize()[1])
    there.given = url
    asyncio.run(there.on_kill())
    assert openai.jobs["ftjob-1"]["status"] == "cancelled"
    assert begin(task).trigger.job == "ftjob-2"


def test_a_failed_job_fails_the_task_in_words(task: hosted.TrainAnywhereOperator, openai: OpenAI, url: str) -> None:
    openai.ending = "failed"
    event = fired(begin(task).trigger, url)
    with pytest.raises(TrainerFailed, match="ftjob-1 failed: The job failed due to an internal error"):
        task.resume({}, event)


def test_an_outage_is_waited_out(task: hosted.TrainAnywhereOperator, server: FaultServer, url: str) -> None:
    trigger = begin(task).trigger
    with server.failing(FAULTS["500"], on="/jobs", times=3):
        assert fired(trigger, url)["told"] == "The job ftjob-1 is succeeded"


@pytest.mark.parametrize(("fault", "says"), [("401", "refuses access"), (None, "connection opstune_openai is gone")])
def test_what_waiting_cannot_cure_ends_the_wait(
    task: hosted.TrainAnywhereOperator, server: FaultServer, url: str, fault: str | None, says: str
) -> None:
    trigger = begin(task).trigger
    with server.failing(FAULTS[fault or "500"], on="/jobs"):
        event = fired(trigger, url if fault else None)
    with pytest.raises(InputError, match=says):
        task.resume({}, event)


def test_a_wait_that_has_ended_is_told_and_the_job_goes_on(
    task: hosted.TrainAnywhereOperator, openai: OpenAI, url: str
) -> None:
    openai.steps = 10_000
    over = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    event = fired(HostedTrigger(begin(task).trigger.job, over, 0.0), url)
    with pytest.raises(ServiceDown, match=r"ftjob-1 is .*, and the wait has ended .* The job goes on there"):
        task.resume({}, event)
    assert openai.jobs["ftjob-1"]["status"] not in ("cancelled", "failed")


def test_what_follows_a_hosted_model_stops_in_words(
    task: hosted.TrainAnywhereOperator, run: Run, dataset: Ref, url: str
) -> None:
    ref = Ref.model_validate(task.resume({}, fired(begin(task).trigger, url)))
    with pytest.raises(EvaluationError, match=f"the model ft:{MODEL}:org:opstune:abc stands at a provider"):
        evaluate(run, dataset, ref)
    with pytest.raises(ExportError, match="there are no weights to convert"):
        convert(run, ref)
