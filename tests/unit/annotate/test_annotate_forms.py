"""Each form: what it shows, what it fills in, and what it reads out of an annotation."""

from __future__ import annotations

from typing import Any

import pytest
from annotation_cases import ANSWERS, chosen, example, rated, read, record, written

from opstune import skills
from opstune.annotate import forms
from opstune.annotate.forms.base import Given, Json

TRIAGE = ANSWERS["triage"]
RUN = chosen("action", "run a function")
ERROR = [*chosen("found", "yes"), *chosen("message", "no route to db-1:5432")]
KIND = [*chosen("category", "timeout"), *chosen("severity", "low")]
QUERY = written("query", "max(waiting)")


@pytest.mark.parametrize(
    ("form", "parts", "label", "answer"),
    [
        ("root_cause", chosen("validation", "correct"), "correct, SEV-1", TRIAGE),
        (
            "root_cause",
            [*chosen("validation", "wrong"), *written("cause", "a bad deploy"), *chosen("severity", "SEV-0")],
            "wrong, SEV-0",
            {**TRIAGE, "root_cause": "a bad deploy", "severity": "SEV-0"},
        ),
        ("root_cause", chosen("validation", "cannot say"), "cannot say", None),
        ("remediation", chosen("action", "leave it alone"), "none", {"function": "none", "parameters": {}}),
        (
            "remediation",
            [*RUN, *chosen("function", "restart_pod")],
            "restart_pod(namespace=shop, pod=cart-1)",
            ANSWERS["remediation"],
        ),
        (
            "remediation",
            [*RUN, *chosen("function", "drain_node"), *written("parameters", "node: node-7")],
            "drain_node(node=node-7)",
            {"function": "drain_node", "parameters": {"node": "node-7"}},
        ),
        ("remediation", chosen("action", "cannot say"), "cannot say", None),
        (
            "log_error",
            [*ERROR, *KIND, *written("reasoning", "it says so")],
            "timeout, low",
            {
                "message": "no route to db-1:5432",
                "category": "timeout",
                "severity": "low",
                "confidence": "high",
                "reasoning": "it says so",
            },
        ),
        ("log_error", chosen("found", "cannot say"), "cannot say", None),
        ("query_quality", chosen("verdict", "as it is"), "as it is", ANSWERS["diagnosis"]),
        (
            "query_quality",
            [*chosen("verdict", "improved"), *QUERY],
            "improved",
            {**ANSWERS["diagnosis"], "query": "max(waiting)"},
        ),
        ("query_quality", chosen("verdict", "cannot say"), "cannot say", None),
    ],
)
def test_an_annotation_is_read_as_an_answer(form: str, parts: list[Json], label: str, answer: Json | None) -> None:
    found = read(form, parts)
    assert (found.fault, found.label, found.answer) == ("", label, answer)
    if answer:
        skills.get(forms.get(form).skill).answer_model.model_validate(found.answer)


@pytest.mark.parametrize(
    ("form", "parts", "changes", "fault"),
    [
        ("root_cause", [], {}, "nothing was chosen"),
        ("root_cause", chosen("validation", "wrong"), {}, "no other was written"),
        ("root_cause", [*chosen("validation", "wrong"), *written("cause", TRIAGE["root_cause"])], {}, "no other"),
        ("root_cause", chosen("validation", "correct"), {"answer": {}}, "none was shown"),
        (
            "root_cause",
            [*chosen("validation", "wrong"), *written("cause", "a bad deploy")],
            {"answer": {}},
            "no severity",
        ),
        ("remediation", [], {}, "nothing was chosen"),
        ("remediation", RUN, {}, "no function"),
        ("remediation", [*RUN, *chosen("function", "reboot")], {}, "not in functions.yaml"),
        ("remediation", [*RUN, *chosen("function", "drain_node")], {}, "needs node, which no label gives"),
        (
            "remediation",
            [*RUN, *chosen("function", "drain_node"), *written("parameters", "node: node-8")],
            {},
            "no label's value",
        ),
        ("remediation", [*RUN, *chosen("function", "drain_node"), *written("parameters", "node 7")], {}, "not a line"),
        ("log_error", ERROR, {}, "no category and no severity"),
        ("log_error", [*chosen("message", "no route"), *chosen("found", "yes"), *KIND], {}, "no line"),
        ("log_error", [], {}, "no message"),
        ("query_quality", [], {}, "nothing was chosen"),
        ("query_quality", chosen("verdict", "improved"), {}, "there is no query"),
        ("query_quality", chosen("verdict", "as it is"), {"answer": {}}, "there is no query"),
        ("query_quality", [*chosen("verdict", "improved"), *QUERY], {"answer": {}}, "no root cause"),
    ],
)
def test_what_is_no_answer_says_why(form: str, parts: list[Json], changes: dict[str, Any], fault: str) -> None:
    found = read(form, parts, **changes)
    assert fault in found.fault and found.answer is None


@pytest.mark.parametrize("form", forms.FORMS)
def test_what_is_filled_in_and_left_as_it_is_reads_as_the_answer_that_was_filled_in(form: str) -> None:
    about = record(form)
    extra = {"root_cause": chosen("validation", "correct"), "query_quality": chosen("verdict", "as it is")}
    filled = [*about.form.prefilled(about.clean.answer, about.clean), *extra.get(form, [])]
    found = about.form.read(Given(filled), about.clean.answer, about.clean)
    assert found.answer is not None
    assert {**found.answer, "reasoning": ""} == {**about.example.answer, "reasoning": ""}


@pytest.mark.parametrize("form", forms.FORMS)
def test_nothing_is_filled_in_where_nobody_knows(form: str) -> None:
    about = record(form, answer={})
    assert about.form.prefilled({}, about.clean) == []
    assert about.task({}, "", "why")["proposal"] == "Nobody knows yet."


def test_parameters_that_labels_of_their_name_give_are_not_filled_in() -> None:
    answer = {"function": "drain_node", "parameters": {"node": "node-7"}}
    about = record("remediation", answer=answer)
    texts = [part["value"]["text"] for part in about.form.prefilled(answer, about.clean) if "text" in part["value"]]
    assert texts == [["node: node-7"]]


@pytest.mark.parametrize(
    ("form", "parts", "rating"),
    [
        ("root_cause", [*chosen("validation", "correct"), *rated("quality", 4)], 4),
        ("remediation", chosen("action", "leave it alone"), None),
        ("query_quality", [*chosen("verdict", "as it is"), *rated("relevance", 5), *rated("efficiency", 2)], 3),
        ("query_quality", [*chosen("verdict", "improved"), *QUERY, *rated("relevance", 1)], None),
    ],
)
def test_stars_rate_what_is_taught(form: str, parts: list[Json], rating: int | None) -> None:
    assert read(form, parts).rating == rating


def test_ratings_of_a_query_are_kept_apart_and_issues_become_notes() -> None:
    parts = [
        *chosen("verdict", "improved"),
        *QUERY,
        *rated("relevance", 1),
        *chosen("issues", "syntax", "too expensive"),
    ]
    found = read("query_quality", [*parts, *written("evidence", "see the docs")])
    assert (found.ratings, found.notes) == ({"relevance": 1}, "syntax, too expensive; see the docs")


@pytest.mark.parametrize(
    ("form", "change", "same"),
    [
        ("root_cause", {"root_cause": "the cache of cart-1 was quite full"}, True),
        ("root_cause", {"root_cause": "the cache of cart-2 was full"}, False),
        ("root_cause", {"severity": "SEV-2"}, False),
        ("remediation", {"parameters": {"namespace": "shop", "pod": "cart-2"}}, False),
        ("log_error", {"reasoning": "other words"}, True),
        ("log_error", {"message": "begin"}, False),
        ("query_quality", {"query": "rate( locks{db='stock'} [5m] )"}, True),
        ("query_quality", {"query": "rate(locks[5m])"}, False),
    ],
)
def test_two_answers_are_the_same_when_they_teach_the_same(form: str, change: Json, same: bool) -> None:
    found = forms.get(form)
    answer = ANSWERS[found.skill]
    assert found.same(answer, {**answer, **change}) is same


def test_a_runbook_that_asks_for_a_mitigation_only_needs_no_severity() -> None:
    asked = {"title": "KubeNodeDown", "asked": ["root_cause"]}
    found = read("root_cause", chosen("validation", "correct"), context=asked, answer={"root_cause": "a dead disk"})
    assert (found.fault, found.answer) == ("", {"root_cause": "a dead disk"})


def test_a_log_is_shown_whole_and_its_lines_are_offered() -> None:
    shown = record("log_error").shown
    assert "INFO begin\nERROR no route" in shown["case"] and "job: nightly" in shown["case"]
    assert shown["lines"] == [{"value": "begin"}, {"value": "no route to db-1:5432"}, {"value": "end"}]


def test_every_form_is_about_a_skill_and_every_example_can_be_shown() -> None:
    for form in forms.FORMS.values():
        assert form.shown(example(form.skill))["case"]
