"""Several processes of one training: who speaks, who broke first, and two real ones on this CPU beside one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from training_data import example, make_dataset

from opstune.artifacts import open_ref
from opstune.errors import ConfigError, OpstuneError, OutOfMemory, TrainerFailed, TrainerKilled
from opstune.settings import TrainSettings
from opstune.train import Progress, Trainer, launch
from opstune.train.launch import Broken
from opstune.train.profiles import Profile

SETTINGS = TrainSettings(checkpoint_steps=2, progress_seconds=0.001)
TWO = {"CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "1"}
#: Sums in another order, and AdamW, which makes steps of like size out of gradients of any: measured 2e-6.
CLOSE = 1e-4


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({}, 1, 1),
        ({}, 4, 4),
        ({"CUDA_VISIBLE_DEVICES": "3"}, 4, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,2"}, 1, 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1, GPU-2,"}, 1, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 2, 1),
    ],
)
def test_there_is_a_process_for_each_device(environment: Mapping[str, str], devices: int, expected: int) -> None:
    assert launch.processes(environment, devices) == expected


def test_a_step_that_cannot_be_shared_out_evenly_is_refused() -> None:
    assert launch.share(32, 4) == 8
    with pytest.raises(ConfigError, match="32 examples a step cannot be shared out evenly to 3 GPUs"):
        launch.share(32, 3)


def test_several_processes_run_the_same_module_under_a_launcher() -> None:
    assert Trainer.command == (sys.executable, "-m", "opstune.train")
    assert "accelerate.commands.launch" in launch.command(2) and launch.command(2)[-2:] == Trainer.command[-2:]


LATE = """
import atexit, sys, time
from pathlib import Path
from opstune.train.child import main
atexit.register(time.sleep, 2.5)
sys.exit(main(Path("missing.json")))
"""


def test_a_trainer_that_takes_long_to_end_keeps_its_exit_code() -> None:
    """Its watch for a parent that is gone looks at the pipe of events once a second, to the last."""
    done = subprocess.run([sys.executable, "-c", LATE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == 1


def summary(*ended: tuple[int, int]) -> list[str]:
    """What torch's launcher writes at its end: every process that failed, and last the first observed."""
    lines = ["E1121 10:00:00.123 77 torch/distributed/elastic/multiprocessing/api.py:988] failed (exitcode: 1)"]
    for rank, code in ended:
        lines += [f"  rank      : {rank} (local_rank: {rank})", f"  exitcode  : {code} (pid: 12{rank})"]
    return lines


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ([(0, 1)], Broken(0, 1)),
        ([(0, -15), (1, -9)], Broken(1, -9)),
        ([(1, -9), (0, 1)], Broken(1, -9)),
        ([(1, 143), (0, 3)], Broken(0, 3)),
        ([(1, -15)], Broken(1, -15)),
        ([], None),
    ],
    ids=["a bug", "killed", "killed, and the other lost it", "told", "stopped", "no word of it"],
)
def test_who_broke_first_is_read_from_the_launchers_log(ended: list[tuple[int, int]], expected: Broken | None) -> None:
    broken, own = launch.read(["Traceback", "ValueError: x", *summary(*ended)])
    assert broken == expected
    assert own == ["Traceback", "ValueError: x"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[dict[str, Path]]:
    """The same training by one process, by two, and by two that were killed and went on."""
    folder = tmp_path_factory.mktemp("launched")
    dataset = make_dataset(folder / "dataset", [example(number) for number in range(17)])
    profile = make_profile(base)
    for name, environment in (("one", {"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1"}), ("two", TWO)):
        Trainer(folder / name, dataset, profile, SETTINGS, environment=environment).run()
    yield {name: folder / name for name in ("one", "two", "dataset")}


def make_profile(base: Path) -> Profile:
    return Profile.model_validate(
        {
            "name": "test", "base": str(base), "method": "lora", "lora": {"rank": 4, "alpha": 8}, "epochs": 6,
            "learning_rate": 0.01, "schedule": "linear", "warmup": 0.1, "batch_size": 4, "max_length": 400,
            "optimiser": "adamw", "precision": "float32", "activation_checkpointing": False,
            "needs": {"disk_gb": 0, "memory_gb": 0},
            "incremental": {"learning_rate_factor": 0.5, "epochs": 1},
        }
    )  # fmt: skip


def test_two_processes_train_what_one_does(trained: dict[str, Path]) -> None:
    one, two = weights(trained["one"]), weights(trained["two"])
    furthest = max(float((one[name] - two[name]).abs().max() / one[name].abs().max()) for name in one)
    assert furthest < CLOSE
    for fact in ("tokens", "steps", "epochs", "examples"):
        assert facts(trained["one"])[fact] == facts(trained["two"])[fact]
    for left, right in zip(facts(trained["one"])["curve"], facts(trained["two"])["curve"], strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=CLOSE)
        assert left["gradient_norm"] == pytest.approx(right["gradient_norm"], rel=CLOSE)


def family() -> dict[str, psutil.Process]:
    """The processes of a training started by this one: the launcher, and each rank under its number."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if not any("resource_tracker" in part for part in process.cmdline()):  # Python's own, of another test
                found[process.environ().get("RANK", "launcher")] = process
    return found


def broken_by_killing(victim: str, trained: dict[str, Path], out: Path, base: Path) -> None:
    """Two processes of which one is killed at the fifth step: the error is raised on, and nothing is left."""
    seen: dict[str, psutil.Process] = {}

    def kill(progress: Progress) -> None:
        if progress.step == 5 and not seen:
            seen.update(family())
            seen[victim].kill()

    try:
        Trainer(out, open_ref(trained["dataset"]), make_profile(base), SETTINGS, None, kill, TWO).run()
    finally:
        assert set(seen) == {"launcher", "0", "1"}
        _, alive = psutil.wait_procs(seen.values(), timeout=10)
        assert not alive


KILLED = r"signal 9.*at step .* of 30.*A retry resumes from step"


def test_a_killed_process_ends_all_and_a_retry_resumes_to_the_same_bits(
    trained: dict[str, Path], tmp_path: Path, base: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(TrainerKilled, match=KILLED):
        broken_by_killing("1", trained, out, base)
    Trainer(out, open_ref(trained["dataset"]), make_profile(base), SETTINGS, environment=TWO).run()
    assert facts(out)["resumed_from"] >= 4
    whole, resumed = weights(trained["two"]), weights(out)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_killed_launcher_leaves_no_process(trained: dict[str, Path], tmp_path: Path, base: Path) -> None:
    with pytest.raises(TrainerKilled, match=KILLED):
        broken_by_killing("launcher", trained, tmp_path / "out", base)


STAND_IN = """
import json, os, sys, time
if os.environ["RANK"] == "0":
    time.sleep(600)
{breaks}
"""


@pytest.mark.parametrize(
    ("breaks", "error", "words"),
    [
        (
            'print(json.dumps({"event": "failed", "kind": "OutOfMemory", "what": "out of memory", "where": "", '
            '"todo": ""}), flush=True); sys.exit(3)',
            OutOfMemory,
            "out of memory.*1 instead of 2 examples at once, 4 times a step",
        ),
        ('raise ValueError("the fault of one")', TrainerFailed, "ValueError: the fault of one"),
    ],
    ids=["told", "a bug"],
)
def test_what_broke_in_any_process_is_told(
    breaks: str,
    error: type[OpstuneError],
    words: str,
    trained: dict[str, Path],
    tmp_path: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN.format(breaks=breaks))
    monkeypatch.setattr(launch, "command", lambda processes, real=launch.command: (*real(processes)[:-2], str(script)))
    dataset = open_ref(trained["dataset"])
    with pytest.raises(error, match=f"(?s){words}"):
        Trainer(tmp_path / "out", dataset, make_profile(base), SETTINGS, environment=TWO).run()
    assert "Process 2 of 2 broke first" in caplog.text
    assert not family()
