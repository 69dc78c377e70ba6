"""Agreement as a table of cases, with the textbooks' own examples."""

from __future__ import annotations

import pytest

from opstune.annotate.agreement import Label, Scale, agreement


def labels(**people: str) -> list[Label]:
    """``ann="aab-"``: one letter an item, a dash where that person said nothing."""
    return [
        Label(f"item {n}", who, int(letter) if letter.isdigit() else letter)
        for who, said in people.items()
        for n, letter in enumerate(said)
        if letter != "-"
    ]


#: Cohen's figures for 50 grants that two readers judged: 20 both yes, 15 both no, 5 and 10 mixed; kappa is 0.4.
COHEN = labels(ann="y" * 20 + "y" * 5 + "n" * 10 + "n" * 15, bob="y" * 20 + "n" * 5 + "y" * 10 + "n" * 15)
#: Krippendorff 2011, section C: four observers, twelve units, some missing; nominal alpha .743, ordinal .815.
KRIPPENDORFF = labels(a="123321412---", b="1233224125-3", c="-3332342251-", d="12332441251-")


@pytest.mark.parametrize(
    ("given", "measure", "value", "percent"),
    [
        (COHEN, "Cohen's kappa", 0.4, 0.7),
        (labels(ann="aabb", bob="aabb"), "Cohen's kappa", 1.0, 1.0),
        (labels(ann="aabb", bob="bbaa"), "Cohen's kappa", -1.0, 0.0),
        (labels(ann="aab", bob="aab", cyd="abb"), "Fleiss' kappa", 0.55, 7 / 9),
        (labels(ann="aabb-", bob="aab-a"), "Krippendorff's alpha", 1.0, 1.0),
        (labels(ann="ab--", bob="ab--", cyd="--ba", dan="--bb"), "Fleiss' kappa", 0.4667, 0.75),
    ],
)
def test_each_case_has_its_measure(given: list[Label], measure: str, value: float, percent: float) -> None:
    found = agreement(given)
    assert found.measure == measure
    assert found.value == pytest.approx(value, abs=1e-3)
    assert found.percent == pytest.approx(percent)


@pytest.mark.parametrize(("scale", "value"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_krippendorffs_own_where_items_miss(scale: Scale, value: float) -> None:
    found = agreement(KRIPPENDORFF, scale)
    assert (found.measure, found.items, found.labelled) == ("Krippendorff's alpha", 11, 12)
    assert found.value == pytest.approx(value, abs=5e-4)


def test_stars_that_are_close_agree_better_than_stars_that_are_far_apart() -> None:
    close, far = (agreement(labels(ann="12345", bob=bob), "ordinal").value for bob in ("23345", "52341"))
    assert close is not None and far is not None and close > far


@pytest.mark.parametrize(
    ("given", "items", "reason"),
    [
        ([], 0, "there are no labels"),
        (labels(ann="abc"), 0, "no item was labelled by two people"),
        (labels(ann="ab--", bob="--ab"), 0, "no item was labelled by two people"),
    ],
)
def test_without_a_second_opinion_nothing_can_be_said(given: list[Label], items: int, reason: str) -> None:
    found = agreement(given)
    assert (found.items, found.reason, found.value, found.percent) == (items, reason, None, None)
    assert found.held("percent") is None and found.held("kappa") is None


@pytest.mark.parametrize(
    "given", [labels(ann="aaa", bob="aaa"), labels(a="55", b="55", c="55"), labels(a="aa", b="a-")]
)
def test_where_all_labels_are_the_same_no_kappa_is_defined_and_the_percentage_is_held(given: list[Label]) -> None:
    found = agreement(given)
    assert found.value is None and "all labels are" in found.reason
    assert found.held("kappa") == found.percent == 1.0


def test_the_line_is_held_against_the_percentage_or_kappa_as_asked() -> None:
    found = agreement(COHEN)
    assert (found.held("percent"), found.held("kappa")) == (pytest.approx(0.7), pytest.approx(0.4))


def test_it_says_whose_labels_differ_on_what() -> None:
    found = agreement(labels(ann="abc", bob="acc", cyd="abc"))
    assert [str(one) for one in found.differ] == ["item 1: ann says b, bob says c, cyd says b"]
    assert found.pairs == {"ann & bob": 2 / 3, "ann & cyd": 1.0, "bob & cyd": 2 / 3}


def test_the_last_label_of_a_person_counts() -> None:
    found = agreement([Label("x", "ann", "a"), Label("x", "bob", "b"), Label("x", "ann", "b")])
    assert (found.differ, found.percent) == ((), 1.0)
