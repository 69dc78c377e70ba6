"""How many slots and devices a stage takes, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from opstune import settings as library
from opstune.errors import ConfigError
from opstune.pipeline import Run
from opstune_airflow import lease, settings
from opstune_airflow.operators import EvaluateOperator, TrainOperator


def run() -> Run:
    return Run("run", "full", library.load())


@pytest.mark.parametrize(("written", "expected"), [("2", 2), ("1", 1), ("0", 1), ("many", 1)])
def test_a_training_takes_a_slot_for_each_of_its_devices(
    monkeypatch: pytest.MonkeyPatch, written: str, expected: int
) -> None:
    monkeypatch.setenv("OPSTUNE__TRAIN__DEVICES", written)
    assert TrainOperator(task_id="t", plan={}, refs={}).pool_slots == expected
    assert EvaluateOperator(task_id="e", plan={}, refs={}).pool_slots == 1


@pytest.mark.parametrize(("written", "expected"), [("train: {devices: 4}", 4), ("train: {}", 1), ("", 1)])
def test_the_slots_are_read_from_the_file_where_the_environment_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: int
) -> None:
    (tmp_path / "opstune.yaml").write_text(written)
    monkeypatch.setenv("OPSTUNE_CONFIG", str(tmp_path))
    assert settings.train_devices() == expected


def test_a_worker_that_reads_another_number_than_the_dag_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = TrainOperator(task_id="t", plan={}, refs={})
    monkeypatch.setenv("OPSTUNE__TRAIN__DEVICES", "2")
    with pytest.raises(ConfigError, match=r"this worker reads train\.devices 2, the DAG processor 1"):
        operator.devices(run(), "t")


def test_a_training_holds_all_its_devices_and_a_pod_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSTUNE__TRAIN__DEVICES", "2")
    monkeypatch.setenv("OPSTUNE_DEVICES", "0,1")
    operator = TrainOperator(task_id="t", plan={}, refs={})
    with operator.devices(run(), "t") as environment:
        assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("OPSTUNE__TRAIN__PLACE", "pod")
    with operator.devices(run(), "t") as environment:
        assert lease.MARK not in environment
