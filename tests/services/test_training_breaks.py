"""Trainings that break from inside under a real Airflow: each is tried again as its rule says, and on-call is told.

What broke it stands in ``drill_child``. All of them are started at once, on two devices, and looked at when they ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from alert_channel import alert_channel
from drill_child import SAVED, STEP, UNSAVED
from drill_place import CHECKPOINT_STEPS, DAG, DEVICES, Place, bad_example, drilling, same

from opstune import tracking
from opstune_airflow import catalog

pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(4000)]

STEPS = 40
QUESTIONS = ["what broke", "where", "what was saved", "what comes next", "what to do"]


@dataclass(frozen=True)
class Case:
    """How a training is broken; what its first attempt's log says, and what the second one resumed from, if any.

    ``same``: the adapter is that of a training that nobody disturbed, tensor by tensor.
    """

    breaks: str
    words: tuple[str, ...]
    resumed_from: int | None = None
    same: bool = False

    @property
    def attempts(self) -> int:
        return 1 if self.resumed_from is None else 2


RESUMED = [
    Case("killed", ("signal 9", f"resumes from step {SAVED}"), SAVED, same=True),
    Case(
        "half written",
        ("signal 9", f"checkpoint of step {SAVED} is damaged", f"resumes from step {SAVED - CHECKPOINT_STEPS}"),
        SAVED - CHECKPOINT_STEPS,
        same=True,
    ),
    Case("disk full", ("the disk is full", f"at step {UNSAVED} of {STEPS}", "Free some space"), SAVED, same=True),
    Case("driver fault", ("illegal memory access", "on another device", "nvidia-smi"), SAVED, same=True),
    Case("out of memory", ("the GPU ran out of memory", "with 2 instead of 4 examples at once, 2 times a step"), SAVED),
    Case("no number", ("the loss is nan", "at half the learning rate, once"), SAVED),
]
FAILED = [
    Case("bad data", (f"example {bad_example(20).id} cannot be trained on", "record 20 of source drill")),
    Case("bug", ("KeyError: 'no such key'", f"at step {STEP} of {STEPS}", "It is not tried again: a bug")),
    Case("no number again", ("the loss is nan", "half the learning rate did not help"), SAVED),
]


@pytest.fixture(scope="module")
def alerts() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with alert_channel() as channel:
        yield channel


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, alerts: tuple[str, list[dict[str, Any]]]) -> Iterator[Place]:
    channel = {"AIRFLOW_CONN_OPSTUNE_ALERTS": json.dumps({"conn_type": "http", "host": alerts[0]})}
    with drilling(tmp_path_factory.mktemp("breaks"), STEPS, first_port=18520, environment=channel) as found:
        yield found


@pytest.fixture(scope="module")
def ended(place: Place) -> dict[str, str]:
    """The Airflow run of every way of breaking, and of none (``""``), all finished, with nothing left behind."""
    place.client.set_pool("gpu", len(DEVICES))
    ways = sorted(["", *(case.breaks for case in [*RESUMED, *FAILED])], key="driver fault".__eq__)
    runs = {breaks: place.begin(breaks) for breaks in ways}  # the driver's last: its device is left alone for an hour
    for run in runs.values():
        place.end(run)
    place.nothing_is_left()
    return runs


def words_of(place: Place, run: str, attempt: int) -> str:
    """The end of a log, which a person can read with ``pytest -rP`` as well."""
    log = place.log(run, attempt)
    print(f"attempt {attempt}:", *log.splitlines()[-14:], sep="\n  ")
    return log


def answers(log: str) -> dict[str, str]:
    """The five answers that a failed attempt's log ends with, by question."""
    lines = [line.rstrip() for line in log.splitlines()]
    found = {question: line for line in lines for question in QUESTIONS if line.startswith(f"{question} ")}
    return {question: line.removeprefix(question).strip() for question, line in found.items()}


@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.breaks)
def test_what_broke_is_told_and_the_retry_goes_on_from_the_last_whole_checkpoint(
    place: Place, ended: dict[str, str], case: Case
) -> None:
    run = ended[case.breaks]
    first = words_of(place, run, 1)
    for words in case.words:
        assert words in first
    assert "Warning" not in first and "%|" not in first, "neither is anybody's business at night"
    told = answers(first)
    assert list(told) == QUESTIONS and all(told.values())
    assert "attempt 1 of 4" in told["where"] and "as attempt 2 of 4" in told["what comes next"]
    assert (place.task(run)["state"], place.task(run)["try_number"]) == ("success", case.attempts)
    assert place.facts(run)["resumed_from"] == case.resumed_from
    assert same(place.folder(run), place.folder(ended[""])) or not case.same


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.breaks)
def test_what_no_retry_can_mend_fails_at_once_and_reaches_the_alert_channel(
    place: Place, ended: dict[str, str], alerts: tuple[str, list[dict[str, Any]]], case: Case
) -> None:
    run = ended[case.breaks]
    last = words_of(place, run, case.attempts)
    for words in case.words:
        assert words in last
    told = answers(last)
    assert list(told) == QUESTIONS and all(told.values())
    assert told["what comes next"].startswith("Nothing: it fails at once.")
    assert (place.task(run)["state"], place.task(run)["try_number"]) == ("failed", case.attempts)
    [alert] = [heard for heard in alerts[1] if run in heard["where"]]
    assert {question: alert[question] for question in QUESTIONS} == told


def test_memory_that_ran_out_halved_the_batch_and_kept_the_step(place: Place, ended: dict[str, str]) -> None:
    used, whole = (place.facts(ended[breaks])["settings"] for breaks in ("out of memory", ""))
    assert (used["batch_size"], used["accumulation"]) == (whole["batch_size"] // 2, 2)
    curves = [[point["loss"] for point in place.facts(ended[breaks])["curve"]] for breaks in ("out of memory", "")]
    # The same steps in two parts each: sums differ by rounding, where a processor multiplies bfloat16 by more.
    assert curves[0][:SAVED] == curves[1][:SAVED] and curves[0] == pytest.approx(curves[1], rel=0.05)


def test_a_loss_that_was_no_number_went_on_at_half_the_rate(place: Place, ended: dict[str, str]) -> None:
    halved, whole = (
        [point["learning_rate"] for point in place.facts(ended[breaks])["curve"]] for breaks in ("no number", "")
    )
    assert halved == [*whole[:SAVED], *(rate / 2 for rate in whole[SAVED:])]


def test_a_device_whose_driver_failed_is_left_alone_by_the_retry(place: Place, ended: dict[str, str]) -> None:
    logs = [place.log(ended["driver fault"], attempt) for attempt in (1, 2)]
    first, second = ([name for name in DEVICES if f"holding device {name}" in log] for log in logs)
    assert first != second and len(first) == len(second) == 1


def test_a_training_is_one_run_of_mlflow_whatever_broke_it(place: Place, ended: dict[str, str]) -> None:
    client = tracking.connect(f"sqlite:///{place.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("opstune")
    told = {}
    for breaks, run in ended.items():
        named = f"tags.`{tracking.RUN_TAG}` = '{catalog.run_folder(DAG, run)}'"
        [found] = client.search_runs([experiment.experiment_id], named)
        losses = client.get_metric_history(found.info.run_id, "train/loss")
        told[breaks] = (found.info.status, "error" in found.data.tags, len({point.step for point in losses}))
    final = {case.breaks for case in FAILED}
    # An evaluation follows a training that ended well, so its run goes on.
    assert {way: (status, error) for way, (status, error, _) in told.items()} == {
        way: ("FAILED", True) if way in final else ("RUNNING", False) for way in ended
    }
    assert {steps for way, (_, _, steps) in told.items() if way not in final} == {STEPS}


def test_no_lease_was_taken_over_and_no_orphan_ended(place: Place, ended: dict[str, str]) -> None:
    for run in ended.values():
        for attempt in range(1, place.task(run)["try_number"] + 1):
            log = place.log(run, attempt)
            assert "is taken over from" not in log and "ended process" not in log
