"""Each kind of failure, from the exception in the child and from its exit and last lines."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from opstune.errors import (
    ConfigError,
    DataError,
    DiskFull,
    Diverged,
    DriverFault,
    OpstuneError,
    OutOfHostMemory,
    OutOfMemory,
    TrainerFailed,
    TrainerKilled,
    TrainerStopped,
)
from opstune.train import failures
from opstune.train.memory import Memory

GB = 10**9
PLENTY = Memory(available=20 * GB, total=24 * GB, rss=GB)
SHORT = Memory(available=GB // 2, total=24 * GB, rss=22 * GB)


class AcceleratorError(RuntimeError):
    """Stands in for torch's of the same name, which cannot be made without a device."""


class SafetensorError(Exception):
    """As safetensors names its own."""


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("while saving")
    outer.__cause__ = error
    return outer


# What is seen as an exception in the child is seen, word for word, in the last lines of one that could not tell it.
EXCEPTIONS = [
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory, "the GPU ran out of memory"),
    (AcceleratorError("CUDA error: out of memory"), OutOfMemory, "the GPU ran out of memory"),
    (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), OutOfMemory, "the GPU ran out of memory"),
    (MemoryError(), OutOfHostMemory, "the machine ran out of memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), OutOfHostMemory, "the machine ran out"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), OutOfHostMemory, "the machine ran out of memory"),
    (OSError(errno.ENOSPC, "No space left on device"), DiskFull, "the disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFull, "the disk is full"),
    (SafetensorError("Error while serializing: I/O error: (os error 28)"), DiskFull, "the disk is full"),
    (RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed"), DiskFull, "disk is full"),
    (AcceleratorError("CUDA error: an illegal memory access was encountered"), DriverFault, "illegal memory access"),
    (RuntimeError("CUDA error: no kernel image is available for execution on the device"), DriverFault, "no kernel"),
    (RuntimeError("Found no NVIDIA driver on your system."), DriverFault, "no NVIDIA driver"),
    (RuntimeError("Failed to initialize NVML: Driver/library version mismatch"), DriverFault, "NVML"),
    (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:94, unhandled system error"), DriverFault, "NCCL error"),
    (
        OSError("Error no file named model.safetensors found in directory base"),
        ConfigError,
        "base model cannot be read",
    ),
    (SafetensorError("Error while deserializing header: header too large"), ConfigError, "base model cannot be read"),
    (KeyError("weight"), None, "exit code 1: KeyError: 'weight'"),
    (AcceleratorError("CUDA error: device-side assert triggered"), None, "device-side assert"),
    (ValueError("the loss is nan"), None, "ValueError: the loss is nan"),
]
NAMES = [f"{type(error).__name__} {str(error)[:30]}" for error, _, _ in EXCEPTIONS]


@pytest.mark.parametrize(("raised", "kind", "words"), EXCEPTIONS, ids=NAMES)
def test_an_exception_of_the_child_is_of_its_kind(raised: Exception, kind: type[OpstuneError], words: str) -> None:
    for error in (raised, wrapped(raised)):
        found = failures.from_exception(error)
        assert (type(found) if found else None) is kind
        assert found is None or words in found.what


@pytest.mark.parametrize(("raised", "kind", "words"), EXCEPTIONS, ids=NAMES)
def test_the_last_lines_of_a_child_that_told_nothing_say_the_same(
    raised: Exception, kind: type[OpstuneError], words: str
) -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "x.py", line 3, in step',
        f"{type(raised).__name__}: {raised}",
    ]
    error = failures.from_exit(1, lines, PLENTY)
    assert type(error) is (kind or TrainerFailed)
    assert words in error.what


EXITS = [
    (-9, PLENTY, TrainerKilled, "killed (signal 9)"),
    (137, PLENTY, TrainerKilled, "killed (signal 9)"),
    (-9, None, TrainerKilled, "killed (signal 9)"),
    (-15, PLENTY, TrainerKilled, "killed (signal 15)"),
    (-15, SHORT, TrainerKilled, "killed (signal 15)"),
    (143, PLENTY, TrainerKilled, "killed (signal 15)"),
    (-2, PLENTY, TrainerKilled, "killed (signal 2)"),
    (-9, SHORT, OutOfHostMemory, "signal 9; 0.5 of 24.0 GB were left, the trainer held 22.0"),
    (137, SHORT, OutOfHostMemory, "killed the trainer (signal 9"),
    (-9, replace(PLENTY, oom_kills=1), OutOfHostMemory, "the kernel had killed for memory"),
    (-11, PLENTY, TrainerFailed, "died of signal 11: done so far"),
    (0, PLENTY, TrainerFailed, "without a result"),
]


@pytest.mark.parametrize(("code", "memory", "kind", "words"), EXITS)
def test_an_exit_is_of_its_kind(code: int, memory: Memory | None, kind: type[OpstuneError], words: str) -> None:
    error = failures.from_exit(code, ["done so far"], memory)
    assert type(error) is kind
    assert words in error.what


def test_a_stop_on_request_is_not_taken_for_a_crash() -> None:
    error = failures.from_exit(-9, ["CUDA out of memory"], SHORT, stopped=True)
    assert type(error) is TrainerStopped


def test_a_worker_that_a_signal_ended_under_a_launcher_was_killed() -> None:
    lines = ["  rank      : 1 (local_rank: 1)", "  exitcode  : -9 (pid: 4242)", "  error_file: <N/A>"]
    assert "signal 9" in failures.from_exit(1, lines, PLENTY).what
    assert type(failures.from_exit(1, lines, SHORT)) is OutOfHostMemory


def test_a_warning_about_the_driver_does_not_explain_another_death() -> None:
    lines = ["cuda/__init__.py:61: UserWarning: Can't initialize NVML", "ValueError: wrong shape"]
    assert type(failures.from_exit(1, lines)) is TrainerFailed


def test_the_last_cause_that_was_told_counts() -> None:
    lines = [
        "RuntimeError: CUDA out of memory",
        "During handling of the above exception",
        "OSError: No space left on device",
    ]
    assert type(failures.from_exit(1, lines)) is DiskFull


@pytest.mark.parametrize(
    "error", [Diverged("the loss is nan"), DataError("example 12ab is bad", "source x", "Mend it.")]
)
def test_what_the_child_told_is_the_same_error(error: OpstuneError) -> None:
    event = {"kind": type(error).__name__, "what": error.what, "where": error.where, "todo": error.todo}
    found = failures.from_event(event)
    assert (type(found), str(found)) == (type(error), str(error))
