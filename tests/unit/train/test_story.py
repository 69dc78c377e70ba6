"""What the next attempt does, and the sentences that say so."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from opstune import errors
from opstune.errors import OpstuneError
from opstune.train import attempts
from opstune.train.attempts import Attempts
from opstune.train.story import Story, explain

STORY = Story(step=123, of=300, saved=100, batch_size=8, accumulation=2, log=Path("trainer.log"))
FRESH = Attempts(asked="x")


def told(kind: type[OpstuneError], before: Attempts = FRESH, story: Story = STORY) -> tuple[Attempts, OpstuneError]:
    left, error = attempts.after(before, kind("it broke"), story)
    return left, explain(error, story)


KINDS = [
    (errors.OutOfMemory, "resumes from step 100 with 4 instead of 8 examples at once, 4 times a step", "batch_size"),
    (errors.OutOfHostMemory, "resumes from step 100 with 4 instead of 8 examples", "what else runs on this machine"),
    (errors.TrainerKilled, "A retry resumes from step 100.", "dmesg"),
    (errors.TrainerStopped, "A retry resumes from step 100", ""),
    (errors.Diverged, "resumes from step 100 at half the learning rate, once", "lower the learning rate"),
    (errors.DiskFull, "A retry resumes from step 100.", "Free some space"),
    (errors.DriverFault, "resumes from step 100, once, on another device where there is one", "nvidia-smi"),
    (errors.TrainerFailed, "It is not tried again: a bug", "it resumes from step 100"),
]


@pytest.mark.parametrize(("kind", "again", "todo"), KINDS)
def test_a_failure_says_what_broke_what_was_saved_what_is_next_and_what_to_do(
    kind: type[OpstuneError], again: str, todo: str
) -> None:
    _, error = told(kind)
    assert type(error) is kind
    assert error.what == "it broke, at step 123 of 300"
    assert error.where == "trainer.log"
    assert error.saved == "The checkpoint of step 100 is saved."
    assert again in error.again
    assert todo in error.todo
    assert error.retryable == error.again.startswith("A retry")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("kind", [kind for kind, _, _ in KINDS])
def test_without_a_checkpoint_nothing_is_promised_to_be_kept(kind: type[OpstuneError]) -> None:
    _, error = told(kind, story=replace(STORY, step=0, saved=None))
    assert error.what == "it broke, before the first step"
    assert error.saved == "No checkpoint was saved yet."
    assert "starts from the first step" in f"{error.again} {error.todo}"


def test_bad_input_keeps_its_own_words() -> None:
    error = errors.DataError("example 12ab cannot be trained on", "source x", "Mend it.")
    _, same = attempts.after(FRESH, error, STORY)
    assert str(explain(same, STORY)) == "example 12ab cannot be trained on (source x). Mend it."


FINAL = [
    (errors.OutOfMemory, FRESH, replace(STORY, batch_size=1, accumulation=16), errors.OneExampleTooLarge),
    (errors.OutOfHostMemory, FRESH, replace(STORY, batch_size=1, accumulation=16), errors.OneExampleTooLarge),
    (errors.Diverged, told(errors.Diverged)[0], STORY, errors.DivergedAgain),
    (errors.DriverFault, told(errors.DriverFault)[0], STORY, errors.DriverFaultAgain),
]


@pytest.mark.parametrize(("kind", "before", "story", "final"), FINAL)
def test_what_a_retry_did_not_mend_is_for_a_person(
    kind: type[OpstuneError], before: Attempts, story: Story, final: type[OpstuneError]
) -> None:
    _, error = told(kind, before, story)
    assert type(error) is final and isinstance(
        error, kind if kind is not errors.OutOfHostMemory else errors.OutOfMemory
    )
    assert not error.retryable and error.again.startswith("It is not tried again")
    assert error.todo


@pytest.mark.parametrize("kind", [errors.TrainerKilled, errors.TrainerStopped, errors.DiskFull, errors.TrainerFailed])
def test_other_failures_change_nothing_for_the_next_attempt(kind: type[OpstuneError]) -> None:
    assert told(kind)[0] == FRESH


def test_memory_that_ran_out_is_remembered_as_half_the_batch() -> None:
    assert told(errors.OutOfMemory)[0].largest_batch == 4
    assert told(errors.OutOfMemory, story=replace(STORY, batch_size=6, accumulation=1))[0].largest_batch == 3


def test_a_diverged_loss_is_remembered_with_its_step_and_where_it_goes_on_from() -> None:
    (halving,) = told(errors.Diverged)[0].halvings
    assert (halving.diverged_at, halving.since, halving.why) == (123, 100, "it broke")


def test_after_a_person_has_acted_a_driver_fault_is_a_first_one_again() -> None:
    once, _ = told(errors.DriverFault)
    twice, _ = told(errors.DriverFault, once)
    assert type(told(errors.DriverFault, twice)[1]) is errors.DriverFault


def test_a_killed_attempt_does_not_forget_what_an_earlier_one_learnt() -> None:
    halved, _ = told(errors.Diverged)
    killed, _ = told(errors.TrainerKilled, halved)
    assert type(told(errors.Diverged, killed)[1]) is errors.DivergedAgain


def test_the_work_of_another_request_is_thrown_away(tmp_path: Path) -> None:
    work = tmp_path / "work"
    attempts.take_up(work, "x")
    (work / "checkpoints").mkdir()
    told(errors.OutOfMemory)[0].write(work)
    assert attempts.take_up(work, "x").largest_batch == 4
    assert (work / "checkpoints").is_dir()
    assert attempts.take_up(work, "y") == Attempts(asked="y")
    assert not (work / "checkpoints").exists()


def test_a_damaged_state_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    assert attempts.take_up(tmp_path, "x") == FRESH
