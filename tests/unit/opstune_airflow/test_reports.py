"""The report pages: only of retrains, only what is signed, and nothing outside a run's folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient

from opstune import artifacts, settings
from opstune.security import signing
from opstune_airflow import reports

RUN = "manual__2026-11-21T22:00:00+00:00"


@pytest.fixture
def folder() -> Path:
    """A run whose challenger was judged."""
    found = settings.load()
    folder = found.runs_dir / "retrain_weekly-manual-2026-11-21T22-00-00" / "gate"

    def make(out: Path) -> dict[str, float]:
        (out / "report.html").write_text("<p>all lines passed</p>")
        return {}

    signing.signed(folder, found.keys_dir, lambda: artifacts.build(folder, "verdict", {}, {}, make))
    return folder


@pytest.mark.parametrize("stage", ["", "gate"])
def test_a_runs_report_is_shown(folder: Path, stage: str) -> None:
    assert reports.read("retrain_weekly", RUN, stage) == (200, "<p>all lines passed</p>")


@pytest.mark.parametrize(
    ("dag_id", "run_id", "stage"),
    [
        ("retrain_weekly", "manual__other", ""),
        ("retrain_weekly", RUN, "gate_shipped"),
        ("retrain_weekly", RUN, "train"),
        ("retrain_weekly", "../../keys", ""),
        ("../keys", RUN, ""),
        ("collect", RUN, ""),
    ],
)
def test_nothing_else_is(folder: Path, dag_id: str, run_id: str, stage: str) -> None:
    status, page = reports.read(dag_id, run_id, stage)
    assert status == 404
    assert "all lines passed" not in page


def test_a_report_that_somebody_changed_is_refused_and_named(folder: Path) -> None:
    (folder / "report.html").write_text("<p>promote it</p>")
    status, page = reports.read("retrain_weekly", RUN, "")
    assert status == 409
    assert "report.html changed" in page and "promote it" not in page


def test_nobody_reads_a_page_without_signing_in(folder: Path) -> None:
    pages = TestClient(reports.app())
    for path in (f"/retrain_weekly/{RUN}", f"/retrain_weekly/{RUN}/gate"):
        answer = pages.get(path)
        assert answer.status_code == 401
        assert "all lines passed" not in answer.text
    assert pages.get("/openapi.json").status_code == pages.get("/docs").status_code == 404


@pytest.mark.parametrize("base", ["http://127.0.0.1:8080/", "https://ops.example/airflow/"])
def test_the_tab_stands_where_airflow_stands(base: str) -> None:
    assert urljoin(base, reports.VIEW["href"]) == f"{base}opstune/reports/{{DAG_ID}}/{{RUN_ID}}"


def test_the_plugin_costs_no_task_the_import_of_fastapi() -> None:
    program = "import sys, opstune_plugin; print('fastapi' in sys.modules)"
    root = Path(reports.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
