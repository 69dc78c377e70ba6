from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from opstune.train import checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Complete checkpoints of steps 10, 20 and 100."""
    for step in (10, 20, 100):
        made = tmp_path / "unfinished" / f"checkpoint-{step}"
        made.mkdir(parents=True)
        (made / "adapter_model.safetensors").write_bytes(b"weights" * step)
        (made / "optimizer.pt").write_bytes(b"moments" * step)
        checkpoints.seal(made, tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


def test_the_newest_by_step_is_picked(folder: Path) -> None:
    assert checkpoints.last_complete(folder) == (100, folder / "checkpoint-100")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut short", "one bit flipped", "missing"])
@pytest.mark.parametrize("name", ["optimizer.pt", checkpoints.SEAL])
def test_a_damaged_newest_is_passed_over(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / "checkpoint-100" / name)
    found = checkpoints.last_complete(folder)
    assert found == (20, folder / "checkpoint-20")


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoints.last_complete(tmp_path / "nowhere") is None


def test_only_the_last_few_are_kept(folder: Path) -> None:
    checkpoints.keep_last(folder, 2)
    assert checkpoints.steps(folder) == [20, 100]


def test_the_best_is_kept_however_old(folder: Path) -> None:
    checkpoints.keep_last(folder, 1, best=10)
    assert checkpoints.steps(folder) == [10, 100]


def test_what_is_newer_than_the_one_resumed_from_goes(folder: Path) -> None:
    checkpoints.drop_after(folder, 20)
    assert checkpoints.steps(folder) == [10, 20]
