"""Hosted fine-tuning against a stand-in that checks every request: one job whatever happens, and every fault told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fault_server import FAULTS, Answer, Fault, FaultServer, Request
from openai_server import KEY, OpenAI
from pydantic import SecretStr

from opstune import artifacts, skills
from opstune.artifacts import Ref
from opstune.errors import (
    AccessDenied,
    ConfigError,
    DataError,
    OpstuneError,
    ServiceDown,
    Throttled,
    TrainerFailed,
    TrainerStopped,
)
from opstune.examples import Example, example_id
from opstune.settings import Connection, HostedSettings, Patience, TrainSettings
from opstune.skills.base import SYSTEM
from opstune.tables import write_examples
from opstune.train import Trainer, load_profile
from opstune.train.backends.openai import JobRuns, model_of
from opstune.train.hosted import AtProvider

HOSTED = HostedSettings(
    poll_seconds=0,
    wait_hours=0.01,
    patience=Patience(timeout_seconds=0.3, attempts=2, backoff_seconds=0, longest_wait_seconds=0),
)
SETTINGS = TrainSettings(profile="openai", allow_data_to_leave=True, hosted=HOSTED)


def example(number: int) -> Example:
    values: dict[str, Any] = {
        "id": example_id("test", str(number), "remediation"), "skill": "remediation", "source": "test",
        "source_id": str(number), "group_id": str(number), "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "context": {"alert": "PodCrashLooping", "labels": {"pod": f"web-{number}", "namespace": "shop"}},
        "answer": {"function": "none", "parameters": {}},
    }  # fmt: skip
    return Example.model_validate(values)


def dataset_of(folder: Path, count: int) -> Ref:
    def make(partial: Path) -> dict[str, float]:
        return {"train": write_examples(partial / "train.parquet", [example(number) for number in range(count)])}

    return artifacts.build(folder, "dataset", {}, {}, make)


class Place:
    """A stand-in behind a server that can fail, and trainings that are asked of it, a folder for all of them."""

    def __init__(self, folder: Path, examples: int = 12) -> None:
        self.openai = OpenAI()
        self.server = FaultServer(self.openai)
        self.folder = folder
        self.dataset = dataset_of(folder / "dataset", examples)

    @property
    def connection(self) -> Connection:
        return Connection(url=SecretStr(self.server.url.replace("://", f"://:{KEY}@")))

    def trainer(self, settings: TrainSettings = SETTINGS, wait: bool = True) -> Trainer:
        place = AtProvider(self.connection, settings, wait)
        return Trainer(self.folder / "train", self.dataset, load_profile("openai"), settings, place=place)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with made.server:
        yield made


def test_a_hosted_training_brings_back_the_models_id(place: Place) -> None:
    ref = place.trainer().run()
    assert ref.kind == "hosted" and ref.counts == {
        "steps": 3,
        "tokens": 1234,
        "loss": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
    }
    assert model_of(ref.path) == "ft:gpt-4.1-mini-2025-04-14:org:opstune:abc"
    facts = json.loads((ref.path / "training.json").read_text())
    assert facts["job"] == "ftjob-1" and [point["step"] for point in facts["curve"]] == [1, 2, 3]
    assert place.trainer().run() == ref and len(place.openai.posted) == 1  # asked again, it is there


def test_what_is_sent_is_our_chats_and_the_profiles_hyperparameters(place: Place) -> None:
    sent: list[dict[str, Any]] = []
    place.server.answer = lambda request: _kept(place.openai, request, sent)
    place.trainer(SETTINGS.model_copy(update={"epochs": 1.5, "learning_rate": 0.25, "seed": 11})).run()
    assert len(sent) == 12
    roles = [message["role"] for message in sent[3]["messages"]]
    assert roles == ["system", "user", "assistant"] and sent[3]["messages"][0]["content"] == SYSTEM
    assert sent[3]["messages"][1]["content"] == skills.get("remediation").render(example(3).context)
    assert sent[3]["messages"][2]["content"] == '{"function":"none","parameters":{}}'
    posted = place.openai.posted[0]
    assert posted["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.25}},
    }
    assert (posted["suffix"], posted["seed"]) == ("opstune", 11)


def _kept(openai: OpenAI, request: Request, sent: list[dict[str, Any]]) -> Answer:
    answer = openai(request)
    sent += next(iter(openai.files.values()), []) if request.path.endswith("/files") else []
    return answer


def test_the_examples_do_not_stay_at_the_provider_nor_in_the_work_folder(place: Place) -> None:
    place.trainer().run()
    assert place.openai.files == {} and place.openai.deleted == ["file-1"]
    assert not list(place.folder.rglob("*.jsonl"))


@pytest.mark.parametrize("on", ["/files", "/fine_tuning/jobs"])
@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("401", AccessDenied, "refuses access .HTTP 401"),
        ("403", AccessDenied, "refuses access .HTTP 403"),
        ("404", ConfigError, "has nothing there .HTTP 404"),
        ("429", Throttled, "asks to slow down"),
        ("500", ServiceDown, "a fault of its own .HTTP 500"),
        ("timeout", ServiceDown, "does not answer in time"),
        ("half an answer", ServiceDown, "breaks off in the middle"),
        ("broken JSON", ServiceDown, "not JSON"),
        ("wrong types", DataError, "a form that opstune does not know"),
    ],
)
def test_a_fault_is_told_and_the_retry_makes_one_job(
    place: Place, fault: str, error: type[OpstuneError], says: str, on: str
) -> None:
    with place.server.failing(FAULTS[fault], on=on), pytest.raises(error, match=says) as told:
        place.trainer().run()
    assert KEY not in str(told.value)
    place.trainer().run()
    assert len(place.openai.posted) == 1


def test_a_job_whose_creation_was_answered_by_half_is_found_again(place: Place) -> None:
    # Uploaded, looked for, created: the third request on the way is answered by half, so its job's id never came.
    with place.server.failing(FAULTS["half an answer"], on="/jobs", after=1, times=1), pytest.raises(ServiceDown):
        place.trainer().run()
    assert len(place.openai.posted) == 1
    place.trainer().run()
    assert len(place.openai.posted) == 1


def test_the_wait_outlasts_an_outage(place: Place) -> None:
    with place.server.failing(FAULTS["500"], on="/events", times=5):
        ref = place.trainer().run()
    assert model_of(ref.path)


def test_a_wait_has_an_end_and_the_next_attempt_goes_on_with_the_job(place: Place) -> None:
    impatient = SETTINGS.model_copy(update={"hosted": HOSTED.model_copy(update={"wait_hours": 1e-9})})
    with pytest.raises(ServiceDown, match=r"has not ended in 1e-09 hours: it is .* The job goes on there"):
        place.trainer(impatient).run()
    place.trainer().run()
    assert len(place.openai.posted) == 1


def test_another_process_goes_on_with_the_job_that_was_begun(place: Place) -> None:
    for _ in range(2):
        with pytest.raises(JobRuns) as begun:
            place.trainer(wait=False).run()
        assert begun.value.job == "ftjob-1"
    assert place.trainer().run().kind == "hosted"
    assert len(place.openai.posted) == 1 and len(place.openai.deleted) == 1


def test_a_failed_job_is_told_and_the_next_attempt_begins_anew(place: Place) -> None:
    place.openai.ending = "failed"
    with pytest.raises(TrainerFailed, match="ftjob-1 failed: The job failed due to an internal error"):
        place.trainer().run()
    place.openai.ending = "succeeded"
    place.trainer().run()
    assert [job["status"] for job in place.openai.jobs.values()] == ["failed", "succeeded"]


def test_a_job_that_somebody_cancelled_at_the_provider_is_not_tried_again_by_itself(place: Place) -> None:
    place.openai.ending = "cancelled"
    with pytest.raises(TrainerFailed, match="ftjob-1 was cancelled at the provider") as told:
        place.trainer().run()
    assert not told.value.retryable


def test_a_refused_file_is_bad_data(tmp_path: Path) -> None:
    few = Place(tmp_path, examples=4)
    with few.server, pytest.raises(DataError, match="refuses the examples of job ftjob-1: Training file has 4 example"):
        few.trainer().run()
    assert few.openai.deleted == ["file-1"]


def test_a_stopped_training_cancels_its_job(place: Place) -> None:
    place.openai.steps = 1000
    trainer, running = place.trainer(), threading.Event()
    place.server.answer = lambda request: _noticed(place.openai, request, running)
    stopper = threading.Thread(target=lambda: (running.wait(10), trainer.stop()))
    stopper.start()
    with pytest.raises(TrainerStopped, match="ftjob-1 was cancelled on request"):
        trainer.run()
    stopper.join()
    assert place.openai.jobs["ftjob-1"]["status"] == "cancelled"
    place.openai.steps = 3
    place.trainer().run()
    assert [job["status"] for job in place.openai.jobs.values()] == ["cancelled", "succeeded"]


def _noticed(openai: OpenAI, request: Request, running: threading.Event) -> Answer:
    answer = openai(request)
    if any(job["status"] == "running" for job in openai.jobs.values()):
        running.set()
    return answer


def test_without_permission_nothing_is_sent(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"private data may not leave the house.*allow_data_to_leave"):
        place.trainer(SETTINGS.model_copy(update={"allow_data_to_leave": False})).run()
    assert place.server.requests == []


def test_a_refused_hyperparameter_is_told_in_the_providers_words(place: Place) -> None:
    refusal = {"error": {"message": "Too large.", "type": "invalid_request_error", "param": "method", "code": None}}
    with place.server.failing(Fault(Answer(refusal, 400)), on="/jobs", after=1), pytest.raises(ConfigError) as told:
        place.trainer().run()
    assert "refuses the request, about method: Too large." in str(told.value)
