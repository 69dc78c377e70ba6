"""Drills on whole trainings, in child processes: killed, out of disk, out of memory, diverged, damaged.

After each nothing is left running, no lock is held, and the adapter is the one of an uninterrupted training where the
rule says that it resumes. The drill of ``kill -9`` in the midst of a training stands in ``test_trainer``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from training_data import example, make_dataset

from opstune.artifacts import Ref
from opstune.errors import DiskFull, Diverged, DivergedAgain, OutOfMemory, TrainerKilled
from opstune.settings import TrainSettings
from opstune.train import Trainer
from opstune.train.profiles import Profile

pytestmark = pytest.mark.drill

SETTINGS = TrainSettings(checkpoint_steps=2, checkpoint_minutes=None, progress_seconds=0.001)

# The real child, with one callback more: what breaks it stands in a file of its own.
CHILD = """
import errno, os, pathlib, signal, sys
import torch
from transformers import TrainerCallback
from opstune.train import child
from opstune.train.backends import trl

class Drill(TrainerCallback):
    def on_step_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        step = state.global_step
        BREAKS

run = trl.run
trl.run = lambda spec, tell: run(spec, tell, [Drill()])
AFTER
if __name__ == "__main__":
    sys.exit(child.main(pathlib.Path(sys.argv[1])))
"""

Make = Callable[..., Trainer]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No child of this process outlives a drill, and every work folder can be locked."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [one.cmdline() for one in set(psutil.Process().children(recursive=True)) - before]
    assert [command for command in left if not any("resource_tracker" in part for part in command)] == []
    for lock in tmp_path.rglob("lock"):
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not list(tmp_path.rglob("unfinished/checkpoint-*")) and not list(tmp_path.rglob("*.partial"))


@pytest.fixture
def drill(tmp_path: Path, dataset: Ref, profile: Profile) -> Make:
    """A trainer in a folder whose child does something when a step begins, or once the drill is set up."""

    def make(folder: Path | str, breaks: str = "pass", after: str = "") -> Trainer:
        file = tmp_path / "drill.py"
        file.write_text(CHILD.replace("BREAKS", breaks).replace("AFTER", after))

        class Drilled(Trainer):
            command = (sys.executable, str(file))

        return Drilled(tmp_path / folder, dataset, profile, SETTINGS)

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Ref:
    """The same training, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    dataset = make_dataset(folder / "dataset", [example(number) for number in range(18)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return Trainer(folder / "train", dataset, profile, SETTINGS).run()


def adapter(ref: Ref) -> dict[str, torch.Tensor]:
    return load_file(ref.path / "adapter_model.safetensors")


def facts(ref: Ref) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ref.path / "training.json").read_text())
    return found


def same(left: Ref, right: Ref) -> bool:
    one, other = adapter(left), adapter(right)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_memory_that_ran_out_at_a_step_takes_half_the_batch_and_makes_the_same_adapter(drill: Make, whole: Ref) -> None:
    """In floating point a sum in two parts differs in its last digits, no more."""
    full = "if step == 5: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')"
    with pytest.raises(OutOfMemory, match=r"at step 5 of 10.*step 4 is saved.*2 instead of 4 examples at once"):
        drill("short", full).run()
    ref = drill("short").run()
    settings = facts(ref)["settings"]
    assert (settings["batch_size"], settings["accumulation"], facts(ref)["resumed_from"]) == (2, 2, 4)
    for name, tensor in adapter(whole).items():
        torch.testing.assert_close(adapter(ref)[name], tensor, rtol=1e-3, atol=1e-4)
    for one, other in zip(facts(whole)["curve"], facts(ref)["curve"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


SPOILT = "step == 5 and next(p for p in model.parameters() if p.requires_grad).data.fill_(float('nan'))"


def test_a_loss_that_is_no_number_goes_on_once_at_half_the_rate(drill: Make, whole: Ref) -> None:
    with pytest.raises(
        Diverged, match=r"the loss is nan.*at step 6 of 10.*resumes from step 4 at half the learning rate"
    ):
        drill("once", SPOILT).run()
    ref = drill("once").run()
    rates, halved = ([point["learning_rate"] for point in facts(one)["curve"]] for one in (whole, ref))
    assert halved == [*rates[:4], *(rate / 2 for rate in rates[4:])]
    (halving,) = facts(ref)["settings"]["halvings"]
    assert (halving["diverged_at"], halving["since"]) == (6, 4)


def test_a_loss_that_is_no_number_again_fails_for_good(drill: Make) -> None:
    with pytest.raises(Diverged):
        drill("twice", SPOILT).run()
    for _ in range(2):  # whoever asks again without a change hears the same
        with pytest.raises(
            DivergedAgain, match=r"at half the learning rate too, at step 6 of 10.*not tried again"
        ) as told:
            drill("twice", SPOILT).run()
        assert not told.value.retryable


def test_a_half_written_newest_checkpoint_gives_way_to_the_one_before(drill: Make, whole: Ref) -> None:
    with pytest.raises(TrainerKilled, match=r"signal 9.*at step \d of 10.*step 6 is saved"):
        drill("broken", "step == 7 and os.kill(os.getpid(), signal.SIGKILL)").run()
    trainer = drill("broken")
    newest = trainer.work / "checkpoints" / "checkpoint-6"
    weights = newest / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (newest / "trainer_state.json").unlink()
    ref = trainer.run()
    assert facts(ref)["resumed_from"] == 4
    assert same(whole, ref)


ENOSPC = """
from opstune.train import checkpoints
seal = checkpoints.seal
def full(made, folder, step):
    if step == 6: raise OSError(errno.ENOSPC, "No space left on device", str(made))
    return seal(made, folder, step)
checkpoints.seal = full
"""


def test_a_disk_that_is_full_while_a_checkpoint_is_sealed_loses_nothing_before_it(drill: Make, whole: Ref) -> None:
    with pytest.raises(DiskFull, match=r"the disk is full, at step 6 of 10.*step 4 is saved.*resumes from step 4"):
        drill("full", after=ENOSPC).run()
    assert sorted(path.name for path in (drill("full").work / "checkpoints").iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
    ]
    ref = drill("full").run()
    assert facts(ref)["resumed_from"] == 4
    assert same(whole, ref)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and os.getuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode  # fmt: skip
    if not mounted:
        pytest.skip("needs the right to mount a small tmpfs: run as root in a container with CAP_SYS_ADMIN")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_is_told_and_resumed_from_when_there_is_room(
    drill: Make, whole: Ref, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    fill = f"""if step == 5:
            left = os.statvfs({str(small_disk)!r})
            pathlib.Path({str(ballast)!r}).write_bytes(b"x" * (left.f_bavail * left.f_frsize - 40000))"""
    trainer = drill(small_disk / "train", fill)
    with pytest.raises(DiskFull, match=r"the disk is full, at step 6 of 10.*step 4 is saved"):
        trainer.run()
    assert sorted(path.name for path in (trainer.work / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert not (trainer.work / "unfinished").exists() and not trainer.folder.exists()
    ballast.unlink()
    ref = drill(small_disk / "train").run()
    assert facts(ref)["resumed_from"] == 4
    assert same(whole, ref)
