"""The labelling pages: every one is shown whole by the editor, and what it would not show is told in words."""

from __future__ import annotations

import re

import pytest
import yaml
from annotation_cases import chosen, example, written

from opstune.annotate import forms, lint, projects
from opstune.annotate.forms.base import Choice
from opstune.annotate.server import Annotation, Task
from opstune.errors import ConfigError
from opstune.settings import config_dir
from opstune.skills.functions import NONE, functions

SHOWN = '<View><Text name="case" value="$case"/>{}</View>'
TWO = '<Choice value="a"/><Choice value="b"/>'
WHEN = '<View whenTagName="x" whenChoiceValue="a,c"/>'


@pytest.mark.parametrize("name", forms.FORMS)
def test_every_page_passes_with_its_catalogues_filled_in(name: str) -> None:
    assert lint.lint(projects.page_of(forms.get(name))) == []


@pytest.mark.parametrize("name", forms.FORMS)
def test_a_form_reads_and_fills_only_what_its_page_asks(name: str) -> None:
    form = forms.get(name)
    asked, offered = lint.controls(projects.page_of(form)), lint.choices(projects.page_of(form))
    about = example(form.skill)
    for part in form.prefilled(about.answer, about):
        assert asked[part["from_name"]] == part["type"]
        known = offered.get(part["from_name"])
        assert known is None or set(part["value"].get("choices", ())) <= known


def test_every_page_belongs_to_a_project_and_every_project_has_one() -> None:
    pages = {path.stem for path in (config_dir() / "label_studio").glob("*.xml")}
    assert pages == set(projects.project_names()) == set(forms.FORMS)


def test_functions_are_those_of_the_catalogue_with_what_they_do() -> None:
    page = projects.page_of(forms.get("remediation"))
    assert lint.choices(page)["function"] == set(functions()) - {NONE}
    assert 'value="restart_pod" hint="delete a pod' in page


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (SHOWN.format('<Code name="x" value="$x"/>'), r"<Code> is no tag of Label Studio 1\.23\.2; use <Text>"),
        (
            SHOWN.format('<Rating name="stars" toName="case"><Label value="1"/></Rating>'),
            "<Rating> may hold no other tags, and holds <Label>",
        ),
        (SHOWN.format('<Rating name="stars" toName="case" stars="5"/>'), "<Rating> knows no attribute 'stars'"),
        (SHOWN.format('<Rating name="stars" toName="log"/>'), "<Rating> 'stars' is about 'log', which nothing shows"),
        (SHOWN.format('<TextArea toName="case"/>'), "<TextArea> has no name"),
        (SHOWN.format('<Rating name="case" toName="case"/>'), "the name 'case' is given 2 times"),
        (SHOWN.format('<View visibleWhen="choice-selected" whenTagName="x"/>'), "shown by 'x', which nothing asks"),
        (SHOWN.format(f'<Choices name="x" toName="case"><View>{TWO}</View></Choices>'), "may hold only <Choice>"),
        (SHOWN.format('<Choices name="x" toName="case"><Choice value="a"/></Choices>'), "needs two choices"),
        (
            SHOWN.format(
                f'<Choices name="x" toName="case">{TWO}</Choices><View whenTagName="x" whenChoiceValue="a,c"/>'
            ),
            "shown by the choice 'c', which 'x' does not offer",
        ),
        ("<View>", "not well-formed"),
        ('<Text name="case" value="$case"/>', "begins with <Text>"),
    ],
)
def test_what_the_editor_would_not_show_is_named(page: str, fault: str) -> None:
    assert any(re.search(fault, told) for told in lint.lint(page))


def test_a_page_may_bring_its_choices_with_each_task() -> None:
    page = SHOWN.format('<Choices name="line" toName="case" value="$lines"/>')
    assert (lint.lint(page), lint.choices(page)) == ([], {})


def test_a_catalogue_that_its_form_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no catalogue 'colours'.*Known: severities"):
        projects.fill('<Choice value="{colours}"/>', {"severities": [Choice("low")]})


def test_entries_of_a_catalogue_cannot_break_the_page() -> None:
    assert projects.fill('<Choice value="{x}"/>', {"x": [Choice('a "b" <c>')]}) == "<Choice value='a \"b\" &lt;c&gt;'/>"


def test_the_instruction_of_a_project_is_more_than_its_title() -> None:
    found = yaml.safe_load((config_dir() / "label_studio" / "projects.yaml").read_text())["projects"]
    assert len({project["title"] for project in found.values()}) == len(found)
    assert all(len(project["instruction"]) > len(project["title"]) for project in found.values())


def task(*results: list[dict[str, object]]) -> Task:
    return Task(1, {}, 1, True, 1, [Annotation(n, 1, "", False, result) for n, result in enumerate(results)])


@pytest.mark.parametrize(
    ("page", "lost"),
    [
        (f'<Choices name="x" toName="case">{TWO}</Choices><TextArea name="t" toName="case"/>', []),
        ('<Choices name="x" toName="case" value="$lines"/><TextArea name="t" toName="case"/>', []),
        (
            '<Choices name="x" toName="case"><Choice value="b"/><Choice value="c"/></Choices>'
            '<TextArea name="t" toName="case"/>',
            ["the choice 'a' of 'x'"],
        ),
        (f'<Choices name="y" toName="case">{TWO}</Choices>', ["the question 'x'", "the question 't'"]),
        (f'<Taxonomy name="x" toName="case">{TWO}</Taxonomy><TextArea name="t" toName="case"/>', ["the question 'x'"]),
    ],
)
def test_what_annotations_would_lose_is_named(page: str, lost: list[str]) -> None:
    held = task(chosen("x", "a"), [*chosen("x", "a"), *written("t", "text")])
    assert projects.orphaned(SHOWN.format(page), [held]) == lost
