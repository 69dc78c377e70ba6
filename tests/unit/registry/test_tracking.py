from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from stages import MakeRun

from opstune import artifacts, tracking
from opstune.errors import DataError, TrainerKilled
from opstune.tracking import Place
from opstune.tracking.machine import read_gpus
from opstune.tracking.tracker import Tracker, lineage

NOBODY = "http://me:hunter2@127.0.0.1:9"


@pytest.fixture
def place(tracking_uri: str, tmp_path: Path) -> Place:
    return Place(tracking_uri, tmp_path.name, tmp_path / "waiting")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def stored(place: Place, run_id: str = "retrain-1") -> Run:
    client = tracking.connect(place.tracking_uri)
    known = client.get_experiment_by_name(place.experiment)
    assert known is not None
    runs = client.search_runs([known.experiment_id])
    assert [run.data.tags[tracking.RUN_TAG] for run in runs] == [run_id]
    return runs[0]


def history(place: Place, name: str) -> list[tuple[int, float]]:
    found = tracking.connect(place.tracking_uri).get_metric_history(stored(place).info.run_id, name)
    return sorted((point.step, point.value) for point in found)


def test_stages_and_retries_of_a_retrain_share_one_run(place: Place) -> None:
    curve = [1.0 / step for step in range(1, 1201)]
    for _ in range(2):
        with tracking.run(place, "retrain-1") as tracker:
            tracker.params({"mode": "full", "parent": None})
            for step, loss in enumerate(curve):
                tracker.metrics({"loss": loss}, step)
    with tracking.run(place, "retrain-1") as tracker:
        tracker.params({"mode": "incremental"})
        tracker.tags({"verdict": "promote"})
    run = stored(place)
    assert tracking.find(place.tracking_uri, place.experiment, "retrain-1") == run.info.run_id
    assert run.data.params == {"mode": "full"}
    assert (run.data.tags["mode"], run.data.tags["verdict"]) == ("incremental", "promote")
    assert history(place, "loss") == list(enumerate(curve))


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ValueError("the password is hunter2"), "FAILED", "ValueError"),
        (
            DataError("nothing is new", "dataset", "Collect first."),
            "FAILED",
            "nothing is new (dataset). Collect first.",
        ),
        (TrainerKilled("stopped", "step 7", "Clear the task."), "KILLED", "stopped (step 7). Clear the task."),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
    ],
)
def test_a_stage_that_fails_is_told_and_its_error_stays(
    place: Place, error: BaseException, status: str, told: str
) -> None:
    with pytest.raises(type(error)), tracking.run(place, "retrain-1") as tracker:
        tracker.params({"mode": "full"})
        raise error
    run = stored(place)
    assert (run.info.status, run.data.tags["error"]) == (status, told)
    assert run.data.params == {"mode": "full"}


def test_a_failure_before_anything_was_told_is_told(place: Place) -> None:
    with pytest.raises(DataError), tracking.run(place, "retrain-1"):
        raise DataError("the sources are stale")
    assert stored(place).info.status == "FAILED"


def test_the_status_is_right_at_every_end(place: Place) -> None:
    seen = []
    for attempt in range(3):
        try:
            with tracking.run(place, "retrain-1") as tracker:
                tracker.metrics({"attempt": attempt})
                if attempt == 1:
                    raise DataError("broken")
        except DataError:
            pass
        run = stored(place)
        seen.append((run.info.status, "error" in run.data.tags))
    with tracking.run(place, "retrain-1") as tracker:
        tracker.finish()
    run = stored(place)
    assert seen == [("RUNNING", False), ("FAILED", True), ("RUNNING", False)]
    assert (run.info.status, run.info.end_time is not None) == ("FINISHED", True)


def test_one_stage_by_hand_is_finished_when_it_ends(place: Place) -> None:
    with tracking.run(place, "retrain-1", last=True) as tracker:
        tracker.params({"mode": "full"})
    assert stored(place).info.status == "FINISHED"


def test_a_long_stage_is_told_while_it_runs(place: Place) -> None:
    with tracking.run(place, "retrain-1", live_seconds=0.05) as tracker:
        tracker.params({"profile": {"lora": {"rank": 8}}})
        tracker.progress(3, {"loss": 0.5, "of": 9.0})
        deadline = time.monotonic() + 60
        while tracking.find(place.tracking_uri, place.experiment, "retrain-1") is None and time.monotonic() < deadline:
            time.sleep(0.05)
        while not (run := stored(place)).data.params and time.monotonic() < deadline:  # a run is made before it is told
            time.sleep(0.05)
        assert (run.info.status, run.data.params) == ("RUNNING", {"profile.lora.rank": "8"})
        tracker.progress(6, {"loss": 0.25})
    assert history(place, "train/loss") == [(3, 0.5), (6, 0.25)]


def test_a_step_that_a_resumed_training_computes_again_is_told_once(place: Place) -> None:
    for speed, rounding in ((100.0, 0.0), (90.0, 1e-4)):
        with tracking.run(place, "retrain-1") as tracker:
            tracker.progress(50, {"loss": 0.5 + rounding, "tokens_per_second": speed})
    with tracking.run(place, "retrain-1") as tracker:  # at half the rate, after the loss was no number
        tracker.progress(50, {"loss": 0.9})
    assert history(place, "train/loss") == [(50, 0.5), (50, 0.9)]
    assert history(place, "train/tokens_per_second") == [(50, 100.0)]


def test_a_figure_that_is_no_number_is_left_out(place: Place) -> None:
    with tracking.run(place, "retrain-1") as tracker:
        tracker.metrics({"good": 1.0, "bad": float("nan")})
    assert stored(place).data.metrics == {"good": 1.0}


def test_points_of_a_curve_stand_where_they_were_reached(tmp_path: Path, make_run: MakeRun) -> None:
    tracker = Tracker()
    tracker._clock = [(1, 1000), (5, 9000)]
    assert [tracker._when(step) for step in (0, 1, 3, 5, 8)] == [1000, 1000, 5000, 9000, 9000]


def test_secrets_and_home_paths_are_not_sent(place: Place, tmp_path: Path) -> None:
    told = {
        "url": "postgresql://me:hunter2@db/oncall",
        "api_key": "hunter2",
        "folder": tmp_path / "runs",
        "tokens": 12,
        "skills": ["triage", "audit"],
        "caps": {},
    }
    with tracking.run(place, "retrain-1") as tracker:
        tracker.params(told)
    assert stored(place).data.params == {
        "url": "postgresql://***@db/oncall",
        "api_key": "***",
        "folder": "runs",
        "tokens": "12",
        "skills": "triage, audit",
    }


def test_datasets_training_and_artifacts_are_kept_with_the_run_once(place: Place, make_run: MakeRun) -> None:
    refs = make_run("retrain-1")
    for _ in range(2):
        with tracking.run(place, "retrain-1") as tracker:
            tracker.dataset("dataset", refs["dataset"])
            tracker.training(refs["adapter"])
            tracker.artifact(refs["verdict"].path / "report.html")
    run = stored(place)
    assert run.data.tags["dataset.sha256"] == refs["dataset"].sha256
    assert run.data.metrics["train/loss"] == 2.0
    given = run.inputs.dataset_inputs
    assert [one.dataset.name for one in given] == ["dataset"]
    assert {tag.key: tag.value for tag in given[0].tags}["sha256"] == refs["dataset"].sha256
    kept = tracking.connect(place.tracking_uri).list_artifacts(run.info.run_id)
    assert [artifact.path for artifact in kept] == ["report.html"]


def test_the_validation_loss_is_a_curve_of_its_own_beside_what_was_chosen_by_it(
    place: Place, tmp_path: Path, make_run: MakeRun
) -> None:
    told = {
        "curve": [{"step": 10, "loss": 2.0}],
        "validation": [{"step": 5, "loss": 1.5}, {"step": 10, "loss": 1.7}],
        "chosen_step": 5,
        "ended": "all 10 steps were made",
    }

    def fill(out: Path) -> dict[str, float]:
        (out / "training.json").write_text(json.dumps(told))
        return {}

    asked = {"profile": {"base": "tiny-ops", "revision": None}, "base_sha256": "b" * 64, "train": {"seed": 9}}
    inputs = {"dataset": make_run("first")["dataset"]}
    with tracking.run(place, "retrain-1") as tracker:
        tracker.training(artifacts.build(tmp_path / "train", "adapter", inputs, asked, fill))
    assert history(place, "validation/loss") == [(5, 1.5), (10, 1.7)]
    assert history(place, "train/loss") == [(10, 2.0)]
    tags = stored(place).data.tags
    assert (tags["training.chosen_step"], tags["training.ended"]) == ("5", "all 10 steps were made")


def test_lineage_is_what_the_sealed_manifest_says(tmp_path: Path, make_run: MakeRun) -> None:
    refs = make_run("first")

    def fill(out: Path) -> dict[str, float]:
        (out / "training.json").write_text("{}")
        return {}

    champion = tmp_path / "models" / "1.0.3" / "adapter"
    parent = artifacts.build(champion, "adapter", {"dataset": refs["dataset"]}, {}, fill)
    asked = {
        "profile": {"base": "owner/name", "revision": None},  # not pinned: what was found is told all the same
        "base_sha256": "b" * 64,
        "base_revision": "abc",
        "train": {"seed": 9},
    }
    inputs = {"dataset": refs["dataset"], "parent": parent}
    told = lineage(artifacts.build(tmp_path / "run" / "train", "adapter", inputs, asked, fill))
    assert told["parent"] == "1.0.3"
    assert told["parent_sha256"] == parent.sha256
    assert told["dataset_sha256"] == refs["dataset"].sha256
    assert (told["base"], told["base_revision"]) == ("owner/name", "abc")
    assert (told["base_sha256"], told["seed"]) == ("b" * 64, 9)
    assert f"torch {artifacts.packages()['torch']}" in told["packages"]
    assert told["git_revision"] == artifacts.git_revision()
    assert lineage(parent)["parent"] == "base"


def test_a_stage_that_tells_nothing_costs_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from opstune import tracking\n"
        f"place = tracking.Place('sqlite:////nowhere/mlflow.db', 'e', Path({str(tmp_path)!r}))\n"
        "with tracking.run(place, 'r', live_seconds=60): pass\n"
        "print('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_what_a_server_that_is_down_was_not_told_waits_without_its_password(
    impatient: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = Place(NOBODY, "e", tmp_path / "waiting")
    with tracking.run(nobody, "retrain-1") as tracker:
        tracker.tags({"verdict": "promote"})
    with pytest.raises(ValueError, match="broken"), tracking.run(nobody, "retrain-1") as tracker:
        raise ValueError("broken")
    told = caplog.text + "".join(file.read_text() for file in nobody.waiting.glob("*.json"))
    assert len(list(nobody.waiting.glob("*.json"))) == 2
    assert "127.0.0.1:9" in told
    assert "hunter2" not in told


def test_what_waited_goes_with_the_next_in_the_order_it_was_told(impatient: None, place: Place) -> None:
    nobody = Place(NOBODY, place.experiment, place.waiting)
    with tracking.run(nobody, "retrain-1") as tracker:
        tracker.params({"mode": "full"})
    with pytest.raises(DataError), tracking.run(nobody, "retrain-1") as tracker:
        tracker.metrics({"loss": 0.5}, 7)
        raise DataError("broken")
    with tracking.run(place, "retrain-1") as tracker:
        tracker.finish()
    run = stored(place)
    assert (run.info.status, run.data.params) == ("FINISHED", {"mode": "full"})
    assert history(place, "loss") == [(7, 0.5)]
    assert "error" not in run.data.tags
    assert not list(place.waiting.glob("*.json"))


@pytest.mark.parametrize("content", ["half a rec", '{"run_id": "r", "unknown": 1}'])
def test_a_waiting_record_that_cannot_be_sent_holds_nothing_up(
    place: Place, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.waiting.mkdir()
    (place.waiting / "1-1.json").write_text(content)
    with tracking.run(place, "retrain-1") as tracker:
        tracker.params({"mode": "full"})
    assert stored(place).data.params == {"mode": "full"}
    assert [file.name for file in place.waiting.glob("*-*")] == ["1-1.refused"]


def test_two_processes_that_tell_at_once_make_one_run(place: Place, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from opstune import tracking\n"
        f"place = tracking.Place({place.tracking_uri!r}, {place.experiment!r}, Path({str(place.waiting)!r}))\n"
        "with tracking.run(place, 'retrain-1') as tracker:\n"
        "    tracker.metrics({f'from-{sys.argv[1]}': 1.0})\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(3)]
    assert [racer.wait(timeout=240) for racer in racers] == [0, 0, 0]
    assert set(stored(place).data.metrics) == {"from-0", "from-1", "from-2"}


def test_processes_that_open_a_new_database_at_once_make_it_once(tmp_path: Path) -> None:
    code = (
        "import sys, mlflow; from opstune import tracking\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"tracking.connect('sqlite:///{tmp_path}/new/mlflow.db').search_experiments()"
    )
    command = [sys.executable, "-c", code]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 4
    for racer in racers:  # all of them are let go before one is waited for
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=240)
    assert [racer.returncode for racer in racers] == [0] * 4


def test_gpus_are_read_from_what_the_driver_says() -> None:
    told = read_gpus("0, 97, 1024, 2048, 350.25\n3, [N/A], 10, [N/A], [N/A]\n")
    assert told == {
        "system/gpu_0_utilization_percentage": 97.0,
        "system/gpu_0_memory_usage_megabytes": 1024 * 1.048576,
        "system/gpu_0_memory_usage_percentage": 50.0,
        "system/gpu_0_power_usage_watts": 350.25,
        "system/gpu_3_memory_usage_megabytes": 10 * 1.048576,
    }


def test_a_machine_is_sampled_while_it_is_watched() -> None:
    tracker, ended = Tracker(), 0
    with tracking.watched(tracker, seconds=0.01):
        while not tracker.told():
            ended += 1
    names = {point.name for point in tracker.record("r", "RUNNING").points}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names
