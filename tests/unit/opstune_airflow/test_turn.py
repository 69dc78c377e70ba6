"""One retrain at a time, and which of two gives way."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from opstune_airflow import turn


class Runs(dict[tuple[str, str], str]):
    """The states of DAG runs, as Airflow would tell them."""

    def state(self, dag_id: str, run_id: str) -> str:
        return self.get((dag_id, run_id), "")


def test_the_second_waits_for_the_first_and_is_told_its_name(tmp_path: Path) -> None:
    runs = Runs({("retrain_monthly", "a"): "running", ("retrain_weekly", "b"): "running"})
    assert turn.take(tmp_path, "retrain_monthly", "a", runs.state) is None
    assert turn.take(tmp_path, "retrain_weekly", "b", runs.state) == "retrain_monthly a"
    assert turn.take(tmp_path, "retrain_monthly", "a", runs.state) is None


@pytest.mark.parametrize("state", ["success", "failed", "queued", ""])
def test_a_turn_is_over_when_its_run_is_not_running(tmp_path: Path, state: str) -> None:
    runs = Runs({("retrain_monthly", "a"): "running"})
    turn.take(tmp_path, "retrain_monthly", "a", runs.state)
    runs["retrain_monthly", "a"] = state
    assert turn.take(tmp_path, "retrain_weekly", "b", runs.state) is None


def test_a_half_written_file_blocks_nobody(tmp_path: Path) -> None:
    (tmp_path / "turn.json").write_text('{"dag_id": "retr')
    assert turn.take(tmp_path, "retrain_weekly", "b", Runs().state) is None


@pytest.mark.parametrize(
    ("dag_id", "scheduled", "day", "monthly_running", "gives_way"),
    [
        ("retrain_weekly", True, 1, False, True),
        ("retrain_weekly", True, 8, False, False),
        ("retrain_weekly", True, 8, True, True),
        ("retrain_weekly", False, 1, True, False),
        ("retrain_monthly", True, 1, True, False),
    ],
)
def test_a_scheduled_weekly_gives_way_to_the_monthly(
    dag_id: str, scheduled: bool, day: int, monthly_running: bool, gives_way: bool
) -> None:
    reason = turn.yields_to_monthly(dag_id, scheduled, datetime(2027, 2, day, 3, tzinfo=UTC), monthly_running)
    assert bool(reason) is gives_way
