"""Which failure is tried again: the table that the task logs quote."""

from __future__ import annotations

import pytest
from airflow.sdk import RetryAction

from opstune import errors
from opstune_airflow import retries


def every_error(root: type[errors.OpstuneError] = errors.OpstuneError) -> list[type[errors.OpstuneError]]:
    return [root, *(found for child in root.__subclasses__() for found in every_error(child))]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_an_error_of_opstune_is_tried_again_exactly_if_it_says_so(error: type[errors.OpstuneError]) -> None:
    decision = retries.POLICY.evaluate(error("what", "where", "todo"), 1, 3)
    assert decision.action is (RetryAction.RETRY if error.retryable else RetryAction.FAIL)
    assert decision.reason


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (ConnectionResetError(), RetryAction.RETRY),
        (TimeoutError(), RetryAction.RETRY),
        (TypeError(), RetryAction.FAIL),
        (MemoryError(), RetryAction.FAIL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.value,
)
def test_a_bug_fails_at_once_and_the_network_gets_another_chance(error: Exception, action: RetryAction) -> None:
    assert retries.POLICY.evaluate(error, 1, 3).action is action


def test_the_rules_survive_the_way_into_airflows_database() -> None:
    kept = type(retries.POLICY).deserialize(retries.POLICY.serialize())
    assert kept.evaluate(errors.TrainerKilled("x"), 1, 3) == retries.POLICY.evaluate(errors.TrainerKilled("x"), 1, 3)
