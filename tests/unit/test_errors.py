"""Errors cross process borders and speak one sentence."""

from __future__ import annotations

import pickle

import pytest

from opstune import errors


def _tree(cls: type[errors.OpstuneError]) -> list[type[errors.OpstuneError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _tree(child))]


@pytest.mark.parametrize("cls", _tree(errors.OpstuneError))
def test_every_error_survives_pickling_with_its_three_parts(cls: type[errors.OpstuneError]) -> None:
    again = pickle.loads(pickle.dumps(cls("a thing broke", "here", "Mend it.")))
    assert (type(again), again.what, again.where, again.todo) == (cls, "a thing broke", "here", "Mend it.")
    assert str(again) == "a thing broke (here). Mend it."


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in _tree(errors.OpstuneError) if "code" in vars(cls)]
    assert len(codes) == len(set(codes))


def test_what_was_saved_and_what_comes_next_survive_pickling_and_stand_in_the_sentence() -> None:
    error = errors.OutOfMemory("a thing broke", "here", "Mend it.")
    error.saved, error.again = "Step 10 is saved.", "A retry takes half."
    assert str(error) == "a thing broke (here). Step 10 is saved. A retry takes half. Mend it."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_only_faults_that_another_attempt_may_mend_are_retried() -> None:
    retryable = {cls.__name__ for cls in _tree(errors.OpstuneError) if cls.retryable}
    outside = {"OutsideError", "ServiceDown", "Throttled", "DiskFull"}
    assert retryable == outside | {
        "OutOfMemory",
        "OutOfHostMemory",
        "TrainerKilled",
        "TrainerStopped",
        "Diverged",
        "DriverFault",
    }
