"""What leaves the house is scrubbed, and answers about it find back to the names of the record."""

from __future__ import annotations

from typing import Any

import pytest
from annotation_cases import ANSWERS, as_it_is, example, record

from opstune.annotate import forms, rows
from opstune.annotate.asking import guesses
from opstune.annotate.choose import Guess, Model
from opstune.annotate.decide import Decision
from opstune.annotate.forms.base import Reading
from opstune.annotate.record import Record
from opstune.annotated import KEY, joined
from opstune.dataset.scrub import scrub
from opstune.examples import Example
from opstune.settings import AnnotateSettings

PLACE = {"project_id": 1, "task": 17}


def clean(about: Example) -> Example:
    return scrub([about], ["Jo Doe"])[0][0]


def scrubbed(skill: str, context: dict[str, Any], answer: dict[str, Any]) -> Record:
    about = example(skill, context=context, answer=answer)
    form = next(form for form in forms.FORMS.values() if form.skill == skill)
    return Record(about, clean(about), form)


def test_no_secret_and_no_person_is_in_a_task() -> None:
    context = {"title": "login of jo@shop.example fails", "symptom": "password=hunter2secret from 10.1.2.3, Jo Doe"}
    about = scrubbed("triage", context, {"severity": "SEV-1", "root_cause": "10.1.2.3 was banned"})
    told = str(about.task(about.clean.answer, "the record", "why"))
    assert not [text for text in ("jo@shop", "hunter2", "10.1.2.3", "Jo Doe") if text in told]


def test_pseudonyms_in_an_answer_become_the_records_own_names_again() -> None:
    context = {"alert": "Down", "labels": {"instance": "10.1.2.3:9100", "host": "10.1.2.4"}, "summary": "jo@x.example"}
    about = scrubbed("remediation", context, {"function": "none", "parameters": {}})
    shown = about.clean.context
    assert shown["labels"] != context["labels"]
    said = {"host": shown["labels"]["host"], "text": f"asked {shown['summary']} about {shown['labels']['instance']}."}
    assert about.restored(said) == {"host": "10.1.2.4", "text": "asked jo@x.example about 10.1.2.3:9100."}


def test_a_secret_stays_hidden() -> None:
    about = scrubbed("triage", {"title": "x", "log": "password=hunter2secret"}, {"root_cause": "a leak"})
    assert "hunter2" not in str(about.restored(about.clean.context))


def test_an_answer_about_scrubbed_names_is_still_possible_in_its_context_after_the_dataset_has_scrubbed_both() -> None:
    context = {"alert": "DiskFull", "labels": {"host": "10.1.2.4", "mountpoint": "/var"}}
    about = scrubbed("remediation", context, {})
    answer = {"function": "clean_disk", "parameters": dict(about.clean.context["labels"])}
    row = rows.row(about, "remediation", PLACE, Decision("answered", Reading("x", answer), ("ann",)), {"1": "t"})
    [again] = scrub(joined([about.example, row]), ["Jo Doe"])[0]
    assert set(again.answer["parameters"].values()) == set(again.context["labels"].values())


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"metadata": {"by": "somebody"}}, True),
        ({"rating": 2}, True),
        ({"answer": {}}, False),
        ({"outcome": "failure"}, False),
        ({"context": {"alert": "another"}}, False),
    ],
)
def test_a_record_changes_for_people_when_what_they_see_changes(change: dict[str, Any], same: bool) -> None:
    assert (record("remediation").fingerprint == record("remediation", **change).fingerprint) is same


def answered(answer: dict[str, Any], state: Any = "answered", **fields: Any) -> Decision:
    return Decision(state, Reading("label", answer, **fields), ("ann", "bob"))


def test_a_correction_becomes_the_target_and_the_original_is_kept() -> None:
    about = record("remediation", outcome="failure")
    given = answered({"function": "none", "parameters": {}}, rating=4, notes="it healed itself")
    [found] = joined([about.example, rows.row(about, "remediation", PLACE, given, {"5": "t"})])
    assert (found.id, found.source, found.group_id) == (about.example.id, "alerts", "incident-1")
    assert found.answer == {"function": "none", "parameters": {}}
    assert found.corrections == {"answer": ANSWERS["remediation"]}
    assert (found.human_validated, found.annotator, found.rating) == (True, "ann, bob", 4)
    assert (found.notes, found.outcome) == ("it healed itself", "unknown")
    told = found.metadata[KEY]
    assert (told["project"], told["project_id"], told["task"], told["annotations"]) == (
        "remediation",
        1,
        17,
        {"5": "t"},
    )


def test_a_confirmed_answer_keeps_its_outcome_and_corrects_nothing() -> None:
    about = record("log_error")
    given = answered({**ANSWERS["log_error"], "reasoning": ""})
    [found] = joined([about.example, rows.row(about, "log_error", PLACE, given, {"5": "t"})])
    assert (found.corrections, found.outcome, found.human_validated) == ({}, "success", True)


@pytest.mark.parametrize("state", ["cannot say", "undecided", "withdrawn"])
def test_what_is_no_answer_leaves_the_record_alone(state: Any) -> None:
    about = record("root_cause", answer={})
    row = rows.row(about, "root_cause", PLACE, Decision(state, by=("ann",)), {"5": "t"})
    assert joined([about.example, row]) == [about.example]
    assert rows.stamps_of(row) == {"5": "t"}


def test_the_sources_own_record_never_overwrites_what_people_said_and_keeps_its_context_with_its_answer() -> None:
    about = record("remediation", answer={})
    row = rows.row(about, "remediation", PLACE, answered(ANSWERS["remediation"]), {"5": "t"})
    later = example(answer={}, context={"alert": "Renamed", "labels": {}}, metadata={"seen": "again"})
    for order in ([row, later], [later, row]):
        [found] = joined(order)
        assert (found.answer, found.context) == (ANSWERS["remediation"], about.example.context)
        assert found.metadata["seen"] == "again"


def test_an_answer_whose_record_is_gone_speaks_for_itself() -> None:
    about = record("remediation")
    row = rows.row(about, "remediation", PLACE, answered(ANSWERS["remediation"]), {"5": "t"})
    [found] = joined([row])
    assert (found.id, found.source, found.source_id) == (about.example.id, "alerts", "1")


class Asked:
    """A model that answers ``none`` to everything and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def model(self, name: str = "opstune 1.0.0") -> Model:
        def ask(examples: Any) -> list[Guess | None]:
            self.seen += [one.source_id for one in examples]
            return [Guess({"function": "none", "parameters": {}}) for _ in examples]

        return Model(name, ask)


def seen(given: list[Example], asked: Asked, kept: Any, **changes: Any) -> list[str]:
    """Which examples the model is asked about in one push."""
    asked.seen.clear()
    settings = AnnotateSettings(**{"audit_share": 0.0, "compared": 2, **changes.pop("settings", {})})
    form = forms.get("remediation")
    model = asked.model(changes.get("name", "opstune 1.0.0"))
    guesses(given, lambda one: Record(one, as_it_is(one), form), model, settings, changes.get("room", 10), kept)
    return sorted(asked.seen)


def test_the_model_is_asked_about_the_unanswered_and_the_newest_and_about_what_it_agreed_with_once(
    own_home: Any,
) -> None:
    none = {"function": "none", "parameters": {}}
    given = [example(number=n, answer=none, context={"alert": str(n), "labels": {}}) for n in (1, 2, 3)]
    given.append(example(number=9, answer={}, context={"alert": "9", "labels": {}}))
    asked, kept = Asked(), own_home / "kept.json"
    assert seen(given, asked, kept) == ["2", "3", "9"]
    assert seen(given, asked, kept) == ["9"]
    assert seen(given, asked, kept, room=0) == []
    given[2] = example(number=3, answer=none, context={"alert": "changed", "labels": {}})
    assert seen(given, asked, kept) == ["3", "9"]
    assert seen(given, asked, kept, name="opstune 1.1.0") == ["2", "3", "9"]
    assert seen(given, asked, kept, settings={"champion_minutes": 1e-9}, name="opstune 1.2.0") == []


def test_what_the_model_answers_otherwise_is_compared_again_until_people_have_seen_it(own_home: Any) -> None:
    asked, kept = Asked(), own_home / "kept.json"
    given = [example(number=1)]
    assert seen(given, asked, kept) == ["1"]
    assert seen(given, asked, kept) == ["1"]
