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


def test_only_outside_faults_memory_kills_and_drivers_may_be_retried() -> None:
    retryable = {cls.__name__ for cls in _tree(errors.OpstuneError) if cls.retryable}
    assert retryable == {"OutsideError", "ServiceDown", "Throttled", "OutOfMemory", "TrainerKilled", "DriverFault"}
