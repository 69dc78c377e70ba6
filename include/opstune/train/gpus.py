"""What the driver says of the GPUs, without opening any: asking torch would leave a CUDA context in this process."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from opstune.errors import DriverFault

_COLUMNS = ("index", "uuid", "name", "driver_version", "memory.free", "memory.total")
_SECONDS = 30.0
_MIB = 2**20


@dataclass(frozen=True)
class Gpu:
    """One GPU. ``free`` and ``total`` are bytes, none where the driver does not say."""

    index: str
    uuid: str
    name: str
    driver: str
    free: float | None
    total: float | None

    def __str__(self) -> str:
        if self.free is None or self.total is None:
            return f"GPU {self.index} ({self.name}, driver {self.driver}) does not say what memory is free"
        free = f"{self.free / 1e9:.1f} of {self.total / 1e9:.1f} GB free"
        return f"GPU {self.index} ({self.name}, driver {self.driver}) has {free}"

    def answers_to(self, name: str) -> bool:
        """Whether a name in ``CUDA_VISIBLE_DEVICES`` means this one: a number, or the begin of its UUID."""
        return name == self.index or (name.startswith("GPU-") and self.uuid.startswith(name))


def listed() -> list[Gpu] | None:
    """Every GPU that the driver shows, or none where there is no ``nvidia-smi`` to ask.

    Raises:
        DriverFault: the driver does not answer, or answers with an error.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={','.join(_COLUMNS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverFault(f"nvidia-smi does not answer: {error}", "preflight", _TODO) from error
    if done.returncode:
        said = " ".join((done.stdout or done.stderr).split())
        raise DriverFault(f"nvidia-smi fails with exit code {done.returncode}: {said}", "preflight", _TODO)
    return [read(row) for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True) if row]


def read(row: Sequence[str]) -> Gpu:
    """One line of nvidia-smi's answer. It writes ``[N/A]`` where it does not know."""
    index, uuid, name, driver, free, total = row
    return Gpu(index, uuid, name, driver, _bytes(free), _bytes(total))


def chosen(gpus: Sequence[Gpu], names: Sequence[str]) -> list[Gpu]:
    """The GPUs of these names, in their order. Parts of one (``MIG-...``) are not listed and left out.

    Raises:
        DriverFault: the driver does not show one of them.
    """
    found = []
    for name in names:
        if name.startswith("MIG-"):
            continue
        match = [gpu for gpu in gpus if gpu.answers_to(name)]
        if not match:
            shown = ", ".join(gpu.index for gpu in gpus) or "none"
            raise DriverFault(f"the driver does not show GPU {name}, only {shown}", "preflight", _TODO)
        found += match
    return found


_TODO = "Look at the machine's kernel log (dmesg, Xid), and restart it or take the GPU out of service."


def _bytes(text: str) -> float | None:
    return float(text) * _MIB if text.replace(".", "", 1).isdigit() else None
