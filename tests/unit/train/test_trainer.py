"""The parent's side, with small stand-ins for the child, and once with the real one and a real kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import (
    ConfigError,
    DataError,
    Diverged,
    IntegrityError,
    OneExampleTooLarge,
    OutOfMemory,
    OutsideError,
    TrainerFailed,
    TrainerKilled,
)
from opstune.settings import TrainSettings
from opstune.train import Progress, Trainer
from opstune.train.profiles import Profile

SETTINGS = TrainSettings(checkpoint_steps=2, progress_seconds=0.001)

BEGIN = """
import json, os, pathlib, signal, subprocess, sys, time
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
work = pathlib.Path(spec["work"])
def tell(event, **facts): print(json.dumps({"event": event, **facts}), flush=True)
def finish():
    done = work / "finished"
    done.mkdir()
    (done / "adapter_model.safetensors").write_text("weights")
    (done / "training.json").write_text(json.dumps({"steps": 4, "tokens": 100, "loss": 0.5}))
tell("begins", step=0, of=9)
"""

Make = Callable[..., Trainer]


@pytest.fixture
def stand_in(tmp_path: Path, dataset: Ref, profile: Profile) -> Make:
    """A trainer whose child is the given program."""

    def make(program: str, **arguments: object) -> Trainer:
        file = tmp_path / "child.py"
        file.write_text(BEGIN + program)

        class StandIn(Trainer):
            command = (sys.executable, str(file))

        return StandIn(tmp_path / "train", dataset, profile, SETTINGS, **arguments)  # type: ignore[arg-type]

    return make


def test_a_finished_training_is_sealed_and_its_work_is_gone_but_for_the_log(stand_in: Make) -> None:
    told: list[Progress] = []
    facts = "step=1, of=9, loss=2.5, learning_rate=0.01, tokens_per_second=900.0, memory_mb=300.0, seconds_left=75.0"
    trainer = stand_in(f"tell('progress', {facts}); finish(); print('noise', file=sys.stderr)", on_progress=told.append)
    ref = trainer.run()
    assert artifacts.verify(ref).counts == {"steps": 4, "tokens": 100, "loss": 0.5}
    assert [path.name for path in trainer.work.iterdir()] == ["trainer.log"]
    assert (trainer.work / "trainer.log").read_text() == "noise\n"
    assert str(told[0]) == "step 1 of 9  loss 2.5000  rate 1.00e-02  900 tokens/s  300 MB  1:15 left"


def test_a_finished_training_is_not_run_again(stand_in: Make) -> None:
    first = stand_in("finish()").run()
    assert stand_in("sys.exit(9)").run() == first


def test_a_changed_dataset_is_refused_by_file(stand_in: Make, dataset: Ref) -> None:
    file = dataset.path / "train.parquet"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=r"train\.parquet changed"):
        stand_in("finish()").run()


FAILURES = [
    ("tell('failed', kind='Diverged', what='the loss is nan'); sys.exit(3)", Diverged, "the loss is nan"),
    ("tell('failed', kind='DataError', what='example 7 is bad'); sys.exit(3)", DataError, "example 7 is bad"),
    ("os.kill(os.getpid(), signal.SIGKILL)", TrainerKilled, "signal 9"),
    ("os.kill(os.getpid(), signal.SIGTERM)", TrainerKilled, "signal 15"),
    ("raise ValueError('wrong shape')", TrainerFailed, "ValueError: wrong shape"),
    ("sys.exit(0)", TrainerFailed, "without a result"),
    ("raise OSError(28, 'No space left on device')", OutsideError, "the disk is full"),
]


@pytest.mark.parametrize(("program", "kind", "words"), FAILURES)
def test_each_end_of_a_child_has_its_error(stand_in: Make, program: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        stand_in(program).run()


def test_memory_that_ran_out_halves_the_batch_next_time(stand_in: Make) -> None:
    for batch, accumulation in [(4, 1), (2, 2)]:
        trainer = stand_in("raise MemoryError")
        with pytest.raises(OutOfMemory):
            trainer.run()
        spec = json.loads((trainer.work / "spec.json").read_text())
        assert (spec["batch_size"], spec["accumulation"]) == (batch, accumulation)
    with pytest.raises(OneExampleTooLarge, match="no smaller batch"):
        stand_in("raise MemoryError").run()


def test_the_work_of_another_request_is_not_resumed(stand_in: Make, profile: Profile, tmp_path: Path) -> None:
    trainer = stand_in("(work / 'checkpoints').mkdir(); sys.exit(1)")
    with pytest.raises(TrainerFailed):
        trainer.run()
    assert (trainer.work / "checkpoints").is_dir()
    other = stand_in("assert not (work / 'checkpoints').exists(); finish()")
    other._request = replace(other._request, settings=SETTINGS.model_copy(update={"seed": 8}))
    other.run()


def test_a_result_that_was_not_yet_sealed_is_taken_up(stand_in: Make) -> None:
    trainer = stand_in("finish(); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TrainerKilled):
        trainer.run()
    assert stand_in("sys.exit(9)").run().counts["steps"] == 4


def test_a_lease_reaches_the_child_and_no_hub_does(stand_in: Make) -> None:
    names = "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"
    program = f"assert [os.environ[n] for n in {names}] == ['3', '1', '1']; finish()"
    stand_in(program, environment={"CUDA_VISIBLE_DEVICES": "3"}).run()


FAMILY = """
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
grandchild = subprocess.Popen([sys.executable, "-c", deaf])
(work / "pids").write_text(f"{os.getpid()} {grandchild.pid}")
time.sleep(60)
"""


def test_stop_ends_the_child_and_what_it_started(stand_in: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opstune.train.place._GRACE", 0.3)
    trainer = stand_in(FAMILY)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            trainer.run()
        except TrainerKilled as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    pids = [int(pid) for pid in wait_for(lambda: (trainer.work / "pids").read_text()).split()]
    assert os.getpgid(pids[0]) == os.getpgid(0), "a process group of its own would outlive a killed task"
    trainer.stop()
    thread.join(60)
    assert "stopped on request" in str(raised[0])
    wait_for(lambda: not [pid for pid in pids if alive(pid)], seconds=10)


def test_a_child_ends_with_a_parent_that_was_killed() -> None:
    child = "import time; from opstune.train import child; child._end_with_parent(1); time.sleep(60)"
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)"
    parent = f"import subprocess, sys, time; print({start}.pid, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not alive(pid), seconds=30)


def test_a_parent_without_an_adapter_is_refused_before_anything_starts(stand_in: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no adapter_model\.safetensors"):
        stand_in("finish()", parent=tmp_path).run()


@pytest.mark.parametrize(
    ("needs", "kind"),
    [({"disk_gb": 1e9, "memory_gb": 0}, OutsideError), ({"disk_gb": 0, "memory_gb": 1e9}, ConfigError)],
)
def test_a_machine_too_small_is_told_at_once(stand_in: Make, needs: dict[str, float], kind: type[Exception]) -> None:
    trainer = stand_in("finish()")
    asked = trainer._request
    small = Profile.model_validate({**asked.profile.model_dump(), "needs": needs})
    trainer._request = replace(asked, profile=small)
    with pytest.raises(kind):
        trainer.run()


def test_a_trainer_killed_by_kill_9_resumes_to_the_same_adapter(
    tmp_path: Path, dataset: Ref, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    longer = profile.model_copy(update={"epochs": 8})
    whole = Trainer(tmp_path / "whole", dataset, longer, SETTINGS).run()
    broken = Trainer(tmp_path / "broken", dataset, longer, SETTINGS)
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.step >= 15 and not killed:
            [child] = [one for one in psutil.Process().children() if "opstune.train" in one.cmdline()]
            killed.append(progress.step)
            child.send_signal(signal.SIGKILL)

    broken._on_progress = kill
    with pytest.raises(TrainerKilled, match=r"killed \(signal 9\), at step \d+ of 40.*A retry resumes from step \d+"):
        broken.run()
    ref = broken.run()
    resumed = json.loads((ref.path / "training.json").read_text())["resumed_from"]
    assert resumed >= 14
    said = (broken.work / "trainer.log").read_bytes()
    assert b"examples" in said and b"Warning" not in said and b"\r" not in said, "its last lines are read at night"
    with (
        safe_open(whole.path / "adapter_model.safetensors", "np") as one,
        safe_open(ref.path / "adapter_model.safetensors", "np") as other,
    ):
        assert sorted(one.keys()) == sorted(other.keys())
        assert all((one.get_tensor(name) == other.get_tensor(name)).all() for name in one.keys())  # noqa: SIM118


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(look: Callable[[], object], seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := look():
                return str(found)
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError("waited in vain")
