"""Leases: one holder a device, and nothing that a dead holder left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from opstune.errors import ConfigError, DriverFault, ServiceDown
from opstune_airflow import lease

PAIR = ["0", "1"]


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


def test_devices_that_exist_in_name_only_come_before_those_that_cuda_shows() -> None:
    assert lease.devices({"OPSTUNE_DEVICES": "cpu:0, cpu:1", "CUDA_VISIBLE_DEVICES": "3"}) == ["cpu:0", "cpu:1"]


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


@pytest.mark.parametrize("names", [["cpu"], ["cpu:0"], ["cpu:0", "cpu:1"]])
def test_a_virtual_device_hides_every_gpu(tmp_path: Path, names: list[str]) -> None:
    with lease.device(tmp_path, "first", names, count=len(names)) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == ""


def test_a_process_on_a_device_of_another_folder_is_nobodys_orphan(tmp_path: Path) -> None:
    with lease.device(tmp_path / "other", "other", ["cpu:0"]) as held:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        with subprocess.Popen(command, env={**os.environ, **held}) as process:
            with lease.device(tmp_path / "mine", "first", ["cpu:0"]):
                assert process.poll() is None
            process.kill()


def test_several_devices_are_held_together_and_shown_in_order(tmp_path: Path) -> None:
    with lease.device(tmp_path, "first", ["0", "1", "2"], count=2) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert ["first" in lease.holder(tmp_path, name) for name in ("0", "1", "2")] == [True, True, False]
        with lease.device(tmp_path, "second", ["0", "1", "2"]) as other:
            assert other["CUDA_VISIBLE_DEVICES"] == "2"


def test_more_devices_than_there_are_is_refused_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"asks for 2 devices.* has 1: 0"),
        lease.device(tmp_path, "x", ["0"], count=2),
    ):
        pass


def test_who_waits_for_two_holds_neither(tmp_path: Path) -> None:
    with lease.device(tmp_path, "first", PAIR):
        with (
            pytest.raises(ServiceDown, match="no 2 free of 2"),
            lease.device(tmp_path, "both", PAIR, 0.0, 0.0, count=2),
        ):
            pass
        with lease.device(tmp_path, "second", PAIR, 0.0) as held:
            assert held["CUDA_VISIBLE_DEVICES"] == "1"


def test_many_that_each_want_two_of_two_all_get_them_in_the_end(tmp_path: Path) -> None:
    inside, most, done = 0, 0, []

    def work(number: int) -> None:
        nonlocal inside, most
        with lease.device(tmp_path, f"worker {number}", PAIR if number % 2 else PAIR[::-1], 60.0, 0.001, count=2):
            inside += 1
            most = max(most, inside)
            done.append(number)
            inside -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(8)) and most == 1


def test_a_device_whose_driver_failed_is_left_alone_for_an_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DriverFault), lease.device(tmp_path, "first", PAIR):
        raise DriverFault("Xid 79, the GPU has fallen off the bus")
    with lease.device(tmp_path, "second", PAIR) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == "1"
    assert "device 0 failed under first: Xid 79, the GPU has fallen off the bus. It is left alone until" in caplog.text
    with lease.device(tmp_path, "both", PAIR, count=2) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "the others are too few, so it is tried again all the same" in caplog.text
    later = time.time() + lease.FAULT_SECONDS + 1
    monkeypatch.setattr(lease.time, "time", lambda: later)
    with lease.device(tmp_path, "third", PAIR) as held:
        assert held["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_lease_of_a_killed_holder_is_taken_over_and_its_trainer_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
        with lease.device(tmp_path, "next", [*PAIR], 5.0, 0.05, count=2):
            record = json.loads(next(tmp_path.glob("*-0.json")).read_text())
            assert (record["holder"], record["pid"]) == ("next", os.getpid())
            assert f"device 0 is taken over from dead (pid {holder.pid}), which died" in caplog.text
            assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE
