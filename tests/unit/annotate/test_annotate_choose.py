"""Who is asked about what: reasons in order, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from annotation_cases import ANSWERS, example

from opstune.annotate import choose
from opstune.annotate.choose import Guess, in_sample, needs
from opstune.examples import Example
from opstune.settings import AnnotateSettings

QUIET = AnnotateSettings(audit_share=0.0)
OTHER = {"function": "none", "parameters": {}}
LOG = ANSWERS["log_error"]


@pytest.mark.parametrize(
    ("about", "guess", "why"),
    [
        (example(answer={}), None, choose.UNANSWERED),
        (example(answer={}), Guess(OTHER), choose.UNANSWERED),
        (example(), None, None),
        (example(), Guess(ANSWERS["remediation"]), None),
        (example(), Guess(OTHER), choose.MODEL_DIFFERS),
        (example(answer={"function": "unknown to us"}), Guess(OTHER), None),
        (example(), Guess(ANSWERS["remediation"], 0.4), choose.UNSURE),
        (example(), Guess(ANSWERS["remediation"], 0.8), None),
        (example(metadata={"confidence": 0.3}), None, choose.UNSURE),
        (example(metadata={"confidence": True}), None, None),
        (example("log_error", answer={**LOG, "confidence": "low"}), None, choose.UNSURE),
        (example("log_error", answer={**LOG, "confidence": "medium"}), None, None),
        (example(answer={}, human_validated=True), None, None),
    ],
)
def test_a_reason_to_ask(about: Example, guess: Guess | None, why: str | None) -> None:
    found = needs([about], {about.id: guess} if guess else {}, QUIET)
    assert [need.why for need in found] == ([why] if why else [])


@pytest.mark.parametrize(
    ("second", "asked"),
    [
        ({"answer": OTHER}, [2]),
        ({}, []),
        ({"answer": OTHER, "human_validated": True}, []),
        ({"answer": {}}, [2]),
        ({"answer": OTHER, "context": {"alert": "another"}}, []),
    ],
)
def test_of_two_records_that_answer_one_question_differently_the_newest_is_asked_about(
    second: dict[str, Any], asked: list[int]
) -> None:
    pair = [example(number=1), example(number=2, source="agents", **second)]
    assert [int(need.example.source_id) for need in needs(pair, {}, QUIET)] == asked


def test_the_most_pressing_reason_comes_first_and_of_one_reason_the_newest() -> None:
    given = [
        example(number=1, metadata={"confidence": 0.1}),
        example(number=2, answer={}, context={"alert": "a"}),
        example(number=3, answer={}, context={"alert": "b"}),
    ]
    assert [int(need.example.source_id) for need in needs(given, {}, QUIET)] == [3, 2, 1]


def test_the_sample_is_always_the_same_and_a_larger_one_holds_the_smaller() -> None:
    ids = [example(number=number).id for number in range(2000)]
    small, large = ({one for one in ids if in_sample(one, share, 7)} for share in (0.05, 0.2))
    assert small < large and 60 < len(small) < 140 and 320 < len(large) < 480
    assert small != {one for one in ids if in_sample(one, 0.05, 8)}
    assert not any(in_sample(one, 0.0, 7) for one in ids) and all(in_sample(one, 1.0, 7) for one in ids)


def test_an_answer_that_nobody_doubts_is_asked_about_in_the_sample_only() -> None:
    given = [example(number=number, context={"alert": str(number)}) for number in range(300)]
    found = needs(given, {}, AnnotateSettings(audit_share=0.1))
    assert {need.why for need in found} == {choose.AUDIT} and 15 < len(found) < 50
