"""Leases: one holder a device, and nothing that a dead holder left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from opstune.errors import ServiceDown
from opstune_airflow import lease


@pytest.mark.parametrize(
    ("visible", "nodes", "expected"),
    [
        (None, [], ["cpu"]),
        (None, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ["0", "1"]),
        (None, ["nvidia10", "nvidia9"], ["9", "10"]),
        ("2,3", ["nvidia0"], ["2", "3"]),
        ("GPU-8f1a", [], ["GPU-8f1a"]),
        ("", ["nvidia0"], ["cpu"]),
        ("-1", ["nvidia0"], ["cpu"]),
    ],
)
def test_devices_are_what_the_machine_has_and_the_environment_allows(
    tmp_path: Path, visible: str | None, nodes: list[str], expected: list[str]
) -> None:
    for node in nodes:
        (tmp_path / node).touch()
    assert lease.devices({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == expected


def test_two_holders_get_two_devices_and_a_third_is_told_who_has_them(tmp_path: Path) -> None:
    with lease.device(tmp_path, "first", ["0", "1"]) as one, lease.device(tmp_path, "second", ["0", "1"]) as two:
        assert (one["CUDA_VISIBLE_DEVICES"], two["CUDA_VISIBLE_DEVICES"]) == ("0", "1")
        with (
            pytest.raises(ServiceDown, match=r"0 by first .*1 by second"),
            lease.device(tmp_path, "third", ["0", "1"], 0.0, 0.0),
        ):
            pass


def test_a_device_is_free_again_after_the_block_even_if_it_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease.device(tmp_path, "first", ["0"]):
        raise ZeroDivisionError
    with lease.device(tmp_path, "second", ["0"], 0.0) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_virtual_device_hides_every_gpu(tmp_path: Path) -> None:
    with lease.device(tmp_path, "first", [lease.CPU]) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == ""


def test_the_lease_of_a_killed_holder_is_taken_over_and_its_trainer_ended(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys; from pathlib import Path; from opstune_airflow import lease\n"
        "with lease.device(Path(sys.argv[1]), 'dead', ['0']) as environment:\n"
        "    environment = {**os.environ, **environment}\n"
        "    up = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'\n"
        "    subprocess.run([sys.executable, '-c', up], env=environment)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        trainer = psutil.Process(int(holder.stdout.readline()))
        assert "dead" in lease.holder(tmp_path, "0")
        holder.kill()
        holder.wait()
        assert trainer.is_running()
        with lease.device(tmp_path, "next", ["0"], 5.0, 0.05):
            record = json.loads(next(tmp_path.glob("*.json")).read_text())
            assert (record["holder"], record["pid"]) == ("next", os.getpid())
            assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE
