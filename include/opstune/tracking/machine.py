"""How busy the machine is while a training runs, under the names of MLflow's own system metrics.

MLflow's sampler needs the run before the training begins, stops for good at the first request that fails, and looks
at every GPU of the machine; this one samples into the tracker and at the leased devices, and sends nothing itself.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from opstune.tracking.tracker import Tracker

_SECONDS = 10.0
_PATIENCE = 5.0
_ASKED = "index,utilization.gpu,memory.used,memory.total,power.draw"


@contextmanager
def watched(tracker: Tracker, devices: str | None = None, seconds: float = _SECONDS) -> Iterator[None]:
    """Tell the tracker every so many seconds how busy processor, memory and the named GPUs are.

    ``devices`` is a ``CUDA_VISIBLE_DEVICES``; none of it means every GPU.
    """
    ended = threading.Event()

    def work() -> None:
        psutil.cpu_percent()  # its first answer is since nothing
        while not ended.wait(seconds):
            # MLflow's charts of the system are over time; a step that only grows needs no counter across retries.
            tracker.metrics(sample(devices), step=int(time.time()))

    thread = threading.Thread(target=work, daemon=True, name="machine")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_PATIENCE)


def sample(devices: str | None = None) -> dict[str, float]:
    """Figures of this moment; the processor's share is since the last call."""
    memory = psutil.virtual_memory()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        **_gpus(devices),
    }


def _gpus(devices: str | None) -> dict[str, float]:
    program = shutil.which("nvidia-smi")
    if program is None or devices == "":
        return {}
    chosen = [f"--id={devices}"] if devices else []
    command = [program, f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits", *chosen]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}  # whether the driver is well is the preflight's question
    return read_gpus(answer)


def read_gpus(answer: str) -> dict[str, float]:
    """Figures out of nvidia-smi's lines; it writes ``[N/A]`` where it does not know, and MiB."""
    found: dict[str, float] = {}
    for line in answer.splitlines():
        index, *values = (value.strip() for value in line.split(","))
        busy, used, total, power = (_number(value) for value in values)
        figures = {
            "utilization_percentage": busy,
            "memory_usage_megabytes": used and used * 1.048576,
            "memory_usage_percentage": used and total and 100 * used / total,
            "power_usage_watts": power,
        }
        found |= {f"system/gpu_{index}_{name}": value for name, value in figures.items() if value is not None}
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
