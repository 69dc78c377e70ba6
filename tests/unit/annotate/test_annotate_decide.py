"""Several people, one answer: the majority of each person's last word."""

from __future__ import annotations

import pytest
from annotation_cases import said

from opstune.annotate.decide import Said, decide, latest
from opstune.annotate.forms.base import CANNOT_SAY, Reading
from opstune.annotate.forms.root_cause import RootCauseValidation

UNSURE = Reading(CANNOT_SAY)
SAME = RootCauseValidation().same


def cause(text: str, label: str = "wrong", **changes: object) -> Reading:
    return Reading(label, {"severity": "SEV-1", "root_cause": text}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "state", "by"),
    [
        ([said("ann", cause("a full cache"))], "answered", ("ann",)),
        ([said("ann", cause("a full cache")), said("bob", cause("a full cache"), 2)], "answered", ("ann", "bob")),
        ([said("ann", cause("a full cache")), said("bob", cause("x", "correct"), 2)], "undecided", ()),
        ([said("ann", cause("a full cache")), said("bob", cause("a bad deploy of cart"), 2)], "undecided", ()),
        ([said("ann", cause("a")), said("bob", UNSURE, 2)], "undecided", ()),
        ([said("ann", UNSURE), said("bob", UNSURE, 2)], "cannot say", ("ann", "bob")),
        (
            [said("ann", cause("a")), said("bob", cause("b", "correct"), 2), said("cyd", cause("a"), 3)],
            "answered",
            ("ann", "cyd"),
        ),
        (
            [said("ann", cause("a")), said("bob", cause("b", "x"), 2), said("c", cause("a", "y"), 3)],
            "undecided",
            (),
        ),
    ],
)
def test_more_than_half_decides(given: list[Said], state: str, by: tuple[str, ...]) -> None:
    found = decide(given, SAME)
    assert (found.state, found.by) == (state, by)
    assert (found.reading is not None) is (state == "answered")


def test_of_those_who_agree_the_last_wording_the_lowest_rating_and_all_notes_count() -> None:
    given = [
        said("ann", cause("the cache of cart was full", rating=5, notes="graph 1")),
        said("bob", cause("the cache of cart was quite full", rating=3, notes="graph 2"), 2),
    ]
    found = decide(given, SAME).reading
    assert found and found.answer and found.answer["root_cause"] == "the cache of cart was quite full"
    assert (found.rating, found.notes) == (3, "graph 1\ngraph 2")


def test_the_later_annotation_of_one_person_replaces_the_earlier() -> None:
    given = [said("ann", cause("late"), 3), said("bob", cause("b"), 2), said("ann", cause("early"), 1)]
    assert [(one.by, one.annotation) for one in latest(given)] == [("bob", 2), ("ann", 3)]
