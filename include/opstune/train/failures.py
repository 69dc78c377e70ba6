"""Which kind of failure a training met: from an exception in the child, or from its exit and last output.

What was saved and what comes next is ``story``'s, and what an earlier attempt changes about it ``attempts``'.
"""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from opstune.errors import (
    ConfigError,
    DiskFull,
    DriverFault,
    OpstuneError,
    OutOfHostMemory,
    OutOfMemory,
    TrainerFailed,
    TrainerKilled,
    TrainerStopped,
    causes,
)
from opstune.train.memory import Memory

#: The child's exit status when it has told its own failure.
TOLD = 3

_FULL = (errno.ENOSPC, errno.EDQUOT)
_KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What accelerate's launcher, itself alive, says of a process of its own that a signal ended.
_OF_A_WORKER = re.compile(r"exitcode\s*:\s*(-\d+)\b")

_HOST_MEMORY = re.compile(
    r"can't allocate memory|Cannot allocate memory|not enough memory: you tried|\bMemoryError\b|std::bad_alloc"
)
_GPU_MEMORY = re.compile(r"out of memory|OutOfMemoryError|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED", re.I)
# torch writes checkpoints with a writer of its own, which says no more than that a write failed.
_DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|os error 28\b|PytorchStreamWriter failed|inline_container\.cc", re.I
)
_DRIVER = re.compile(
    r"CUDA error:|CUDA driver|NVIDIA driver|NVML|\bNCCL\b|nccl[A-Z]\w*Error|\bXid\b|no kernel image|cuDNN error"
    r"|CUBLAS_STATUS|CUDNN_STATUS|no CUDA-capable device|unspecified launch failure"
)
# An index out of its range stops a kernel: that is the program's fault and not the device's.
_NOT_DRIVER = re.compile(r"device-side assert")
_NO_BASE = re.compile(
    r"no file named [\w.*, ]*(safetensors|config|bin)|does not appear to have a file named|is not a local folder"
    r"|Can't load (the (model|configuration|tokenizer)|tokenizer|config)|OfflineModeIsEnabled|LocalEntryNotFoundError"
    r"|SafetensorError.*(header|deserializ)",
    re.I,
)


def from_exception(error: BaseException) -> OpstuneError | None:
    """The child's own view of an exception: none when it is a bug, which a traceback tells better."""
    for cause in causes(error):
        if isinstance(cause, OpstuneError):
            return cause
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return DiskFull("the disk is full")
        if isinstance(cause, MemoryError):
            return OutOfHostMemory("the machine ran out of memory")
        if known := _from_text(f"{type(cause).__name__}: {cause}"):
            return known
    return None


def from_event(event: dict[str, Any]) -> OpstuneError:
    """The error that a child told before it ended."""
    kinds = {kind.__name__: kind for kind in _subclasses(OpstuneError)}
    kind = kinds.get(str(event.get("kind")), TrainerFailed)
    return kind(str(event["what"]), str(event.get("where", "")), str(event.get("todo", "")))


def from_exit(
    code: int, last_lines: Sequence[str], memory: Memory | None = None, stopped: bool = False
) -> OpstuneError:
    """The error of a child that ended without a word, from its exit code, its last output and the machine's memory.

    A negative code is the signal that ended it, as ``subprocess`` has it; a shell or a container adds 128 to it.
    """
    if stopped:
        return TrainerStopped("the trainer was stopped on request")
    number = _signal_of(code, last_lines)
    if number == signal.SIGKILL and memory and memory.short:
        return OutOfHostMemory(f"the machine ran out of memory and killed the trainer (signal 9; {memory})")
    if number in _KILLS:
        return TrainerKilled(f"the trainer was killed (signal {number})")
    said = [text.strip() for text in last_lines if text.strip() and "warning" not in text.lower()]
    for text in reversed(said):
        if known := _from_text(text):
            return known
    if code == 0:
        return TrainerFailed("the trainer ended without a result")
    died = f"died of signal {-code}" if code < 0 else f"ended with exit code {code}"
    return TrainerFailed(f"the trainer {died}{f': {said[-1]}' if said else ''}")


def _from_text(text: str) -> OpstuneError | None:
    """What a line of an error says, where it is none of the trainer's own."""
    if _HOST_MEMORY.search(text):
        return OutOfHostMemory("the machine ran out of memory")
    if _GPU_MEMORY.search(text):
        return OutOfMemory("the GPU ran out of memory")
    if _DISK_FULL.search(text):
        return DiskFull("the disk is full")
    if _DRIVER.search(text) and not _NOT_DRIVER.search(text):
        return DriverFault(f"the GPU or its driver failed: {text.splitlines()[0][:200]}")
    if _NO_BASE.search(text):
        todo = "Fetch the base again, whole, or correct `base` in the profile."
        return ConfigError(f"the base model cannot be read: {text.splitlines()[0][:200]}", "base model", todo)
    return None


def _signal_of(code: int, last_lines: Sequence[str]) -> int:
    """The signal that ended the trainer, 0 where none did."""
    if code < 0:
        return -code
    if code > 128:
        return code - 128
    told = [int(found[1]) for text in last_lines if (found := _OF_A_WORKER.search(text))]
    return -told[-1] if told else 0


def _subclasses(kind: type[OpstuneError]) -> Iterator[type[OpstuneError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _subclasses(child)
