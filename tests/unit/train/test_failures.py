from __future__ import annotations

import errno
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from opstune.errors import (
    DataError,
    Diverged,
    OpstuneError,
    OutOfMemory,
    OutsideError,
    TrainerFailed,
    TrainerKilled,
)
from opstune.train import failures
from opstune.train.failures import Story
from opstune.train.memory import Memory

GB = 10**9
PLENTY = Memory(available=20 * GB, total=24 * GB, rss=GB)
SHORT = Memory(available=GB // 2, total=24 * GB, rss=22 * GB)
STORY = Story(step=123, of=300, saved=100, batch_size=8, memory=PLENTY, log=Path("trainer.log"))

EXITS = [
    (-9, PLENTY, "", TrainerKilled, "killed (signal 9), at step 123 of 300"),
    (137, PLENTY, "", TrainerKilled, "killed (signal 9)"),
    (-15, PLENTY, "", TrainerKilled, "killed (signal 15)"),
    (-9, SHORT, "", OutOfMemory, "the machine ran out of memory"),
    (-9, replace(PLENTY, oom_kills=1), "", OutOfMemory, "the machine ran out of memory"),
    (-15, SHORT, "", TrainerKilled, "signal 15"),
    (1, PLENTY, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", OutOfMemory, "out of memory"),
    (1, PLENTY, "RuntimeError: DefaultCPUAllocator: can't allocate memory", OutOfMemory, "out of memory"),
    (1, PLENTY, "OSError: [Errno 28] No space left on device", OutsideError, "the disk is full, at step 123"),
    (1, PLENTY, "SafetensorError: I/O error (os error 28)", OutsideError, "the disk is full"),
    (1, PLENTY, "KeyError: 'weight'", TrainerFailed, "exit code 1: KeyError: 'weight', at step 123"),
    (-11, PLENTY, "", TrainerFailed, "died of signal 11"),
]


@pytest.mark.parametrize(("code", "memory", "tail", "kind", "words"), EXITS)
def test_an_exit_becomes_the_right_error(
    code: int, memory: Memory, tail: str, kind: type[OpstuneError], words: str
) -> None:
    error = failures.from_exit(code, replace(STORY, memory=memory, last_lines=["before", tail]))
    assert type(error) is kind
    assert words in str(error)
    assert "The checkpoint of step 100 is saved." in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("saved", "words"), [(100, "A retry resumes from step 100."), (None, "A retry starts from the first step.")]
)
def test_a_killed_training_says_what_a_retry_does(saved: int | None, words: str) -> None:
    error = failures.from_exit(-9, replace(STORY, saved=saved))
    assert error.retryable
    assert words in str(error)


def test_a_stop_on_request_is_not_taken_for_a_crash() -> None:
    error = failures.from_exit(-9, replace(STORY, stopped=True, memory=SHORT))
    assert type(error) is TrainerKilled
    assert "stopped on request" in str(error)


def test_out_of_memory_at_one_example_is_not_retried() -> None:
    retried = failures.from_exit(1, replace(STORY, last_lines=["CUDA out of memory"]))
    final = failures.from_exit(1, replace(STORY, batch_size=1, last_lines=["CUDA out of memory"]))
    assert retried.retryable and "half the batch and twice the accumulation" in str(retried)
    assert not final.retryable and "Not even one example" in str(final)


def test_a_bug_shows_the_last_lines_of_its_traceback() -> None:
    lines = [f"line {number}" for number in range(30)] + ["ZeroDivisionError: division by zero"]
    told = str(failures.from_exit(1, replace(STORY, last_lines=lines)))
    assert "line 29\n" in told and "line 20\n" not in told and told.rstrip(".").endswith("division by zero")


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("while saving")
    outer.__cause__ = error
    return outer


EXCEPTIONS = [
    (MemoryError(), OutOfMemory),
    (RuntimeError("CUDA out of memory. Tried to allocate"), OutOfMemory),
    (OSError(errno.ENOSPC, "No space left on device"), OutsideError),
    (wrapped(OSError(errno.EDQUOT, "quota")), OutsideError),
    (wrapped(Diverged("the loss is nan")), Diverged),
    (KeyError("weight"), None),
]


@pytest.mark.parametrize(("raised", "kind"), EXCEPTIONS)
def test_the_child_knows_its_own_failures(raised: Exception, kind: type[OpstuneError] | None) -> None:
    found = failures.from_exception(raised)
    assert (type(found) if found else None) is kind


def test_what_the_child_told_is_the_same_error_with_the_story() -> None:
    event = {"kind": "Diverged", "what": "the loss is nan and its gradient 3.2"}
    error = failures.from_event(event, STORY)
    assert type(error) is Diverged and not error.retryable
    assert "the loss is nan and its gradient 3.2, at step 123 of 300" in str(error)
    assert "not retried" in str(error)


def test_bad_data_keeps_its_own_words() -> None:
    event = {"kind": "DataError", "what": "example 12ab cannot be trained on", "where": "source x", "todo": "Mend it."}
    assert str(failures.from_event(event, STORY)) == "example 12ab cannot be trained on (source x). Mend it."
    assert type(failures.from_event(event, STORY)) is DataError
