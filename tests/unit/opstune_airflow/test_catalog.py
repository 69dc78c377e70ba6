"""The names that DAGs share."""

from __future__ import annotations

import pytest

from opstune_airflow.catalog import run_folder


@pytest.mark.parametrize(
    ("airflow", "folder"),
    [
        ("scheduled__2026-11-02T03:00:00+00:00", "retrain_weekly-scheduled-2026-11-02T03-00-00"),
        ("manual__2026-11-02T03:00:00.123456+00:00", "retrain_weekly-manual-2026-11-02T03-00-00.123456"),
        ("../../etc", "retrain_weekly-..-..-etc"),
    ],
)
def test_a_runs_folder_is_a_plain_name(airflow: str, folder: str) -> None:
    assert run_folder("retrain_weekly", airflow) == folder
