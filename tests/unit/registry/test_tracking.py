from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run
from stages import MakeRun

from opstune import tracking
from opstune.errors import ServiceDown


def stored(tracking_uri: str, experiment: str, run_id: str = "retrain-1") -> Run:
    client = tracking.connect(tracking_uri)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    runs = client.search_runs([known.experiment_id])
    assert [run.data.tags[tracking.RUN_TAG] for run in runs] == [run_id]
    return runs[0]


def test_stages_and_retries_of_a_retrain_share_one_run(tracking_uri: str, tmp_path: Path) -> None:
    curve = [1.0 / step for step in range(1, 1201)]
    for _ in range(2):
        with tracking.run(tracking_uri, tmp_path.name, "retrain-1") as tracker:
            tracker.params({"mode": "full", "parent": None})
            for step, loss in enumerate(curve):
                tracker.metrics({"loss": loss}, step)
    with tracking.run(tracking_uri, tmp_path.name, "retrain-1") as tracker:
        tracker.params({"mode": "incremental"})
        tracker.tags({"verdict": "promote"})
    run = stored(tracking_uri, tmp_path.name)
    assert tracking.find(tracking_uri, tmp_path.name, "retrain-1") == run.info.run_id
    assert run.data.params == {"mode": "full"}
    assert (run.data.tags["mode"], run.data.tags["verdict"]) == ("incremental", "promote")
    history = tracking.connect(tracking_uri).get_metric_history(run.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == list(enumerate(curve))


def test_a_stage_that_fails_is_told_and_its_error_stays(tracking_uri: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), tracking.run(tracking_uri, tmp_path.name, "retrain-1") as tracker:
        tracker.params({"mode": "full"})
        raise ValueError("broken")
    run = stored(tracking_uri, tmp_path.name)
    assert (run.info.status, run.data.params) == ("FAILED", {"mode": "full"})


def test_secrets_and_home_paths_are_not_sent(tracking_uri: str, tmp_path: Path) -> None:
    with tracking.run(tracking_uri, tmp_path.name, "retrain-1") as tracker:
        tracker.params(
            {
                "url": "postgresql://me:hunter2@db/oncall",
                "api_key": "hunter2",
                "folder": tmp_path / "runs",
                "tokens": 12,
            }
        )
    params = stored(tracking_uri, tmp_path.name).data.params
    assert params == {"url": "postgresql://***@db/oncall", "api_key": "***", "folder": "runs", "tokens": "12"}


def test_datasets_training_and_artifacts_are_kept_with_the_run(
    tracking_uri: str, tmp_path: Path, make_run: MakeRun
) -> None:
    refs = make_run("retrain-1")
    with tracking.run(tracking_uri, tmp_path.name, "retrain-1") as tracker:
        tracker.dataset("dataset", refs["dataset"])
        tracker.training(refs["adapter"])
        tracker.artifact(refs["verdict"].path / "report.html")
    run = stored(tracking_uri, tmp_path.name)
    assert run.data.tags["dataset.sha256"] == refs["dataset"].sha256
    assert run.data.metrics["train.loss"] == 2.0
    assert [given.dataset.name for given in run.inputs.dataset_inputs] == ["dataset"]
    kept = tracking.connect(tracking_uri).list_artifacts(run.info.run_id)
    assert [artifact.path for artifact in kept] == ["report.html"]


def test_a_stage_that_tells_nothing_costs_nothing() -> None:
    code = (
        "import sys; from opstune import tracking\n"
        "with tracking.run('sqlite:////nowhere/mlflow.db', 'e', 'r'): pass\n"
        "print('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_server_that_is_down_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceDown) as down, tracking.run("http://me:hunter2@127.0.0.1:9", "e", "r") as tracker:
        tracker.tags({"verdict": "promote"})
    assert "127.0.0.1:9" in str(down.value)
    assert "hunter2" not in str(down.value)
