"""Better, not worse, worse or nobody can say; and which cases broke."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from fake_engine import example

from opstune.evaluate.champion import Word, against, as_lines, broken
from opstune.evaluate.evidence import DifferenceSeen
from opstune.evaluate.predict import Prediction
from opstune.evaluate.verdict import decide


def prediction(number: int, scores: Mapping[str, bool], text: str) -> Prediction:
    return Prediction(
        id=f"triage-{number:04}",
        skill="triage",
        text=text,
        parsed=None,
        scores={**scores, "valid_json": True},
        tokens=1,
        seconds=None,
    )


@pytest.mark.parametrize(
    ("seen", "margin", "word", "said"),
    [
        (DifferenceSeen(24, 6, 648), 0.02, "better", "Better than the champion: of 648 answers 24 are newly right"),
        (DifferenceSeen(0, 0, 648), 0.02, "not_worse", "not shown to be better: of 648 answers 0 are newly right"),
        (DifferenceSeen(6, 6, 648), 0.02, "not_worse", "Not worse than the champion by 2 points or more"),
        (DifferenceSeen(9, 4, 648), 0.02, "not_worse", "not shown to be better"),
        (DifferenceSeen(6, 24, 648), 0.02, "worse", "Worse than the champion: of 648"),
        (DifferenceSeen(0, 8, 2000), 0.02, "worse", "Worse than the champion, though by less than 2 points"),
        (DifferenceSeen(0, 0, 30), 0.02, "cannot_say", "Nobody can say"),
        (DifferenceSeen(40, 40, 648), 0.02, "cannot_say", "Nobody can say"),
        (DifferenceSeen(6, 6, 648), None, "cannot_say", "Nobody can say"),
        (DifferenceSeen(24, 6, 648), None, "better", "Better"),
    ],
)
def test_the_challenger_is_called(seen: DifferenceSeen, margin: float | None, word: Word, said: str) -> None:
    found = against({"all": seen}, {"all": margin} if margin is not None else {})
    assert found.word == word
    assert said in found.sentence


def test_what_only_one_incident_gained_is_not_called_better() -> None:
    """Twelve answers of 600, but all of one incident: exact McNemar takes them for twelve proofs."""
    one = DifferenceSeen(12, 0, 600, ((12, 12), *[(0, 6)] * 98))
    many = DifferenceSeen(12, 0, 600, (*[(1, 6)] * 12, *[(0, 6)] * 88))
    assert one.p_value == many.p_value < 0.001
    assert against({"all": one}, {"all": 0.02}).word == "not_worse"
    assert against({"all": many}, {"all": 0.02}).word == "better"


def test_all_comes_first_and_every_skill_has_its_own_margin() -> None:
    pairs = {"triage": DifferenceSeen(1, 1, 91), "all": DifferenceSeen(3, 3, 648)}
    found = against(pairs, {"all": 0.02, "triage": 0.05})
    assert [(one.skill, one.margin, one.word) for one in found.comparisons] == [
        ("all", 0.02, "not_worse"),
        ("triage", 0.05, "not_worse"),
    ]


def test_a_verdict_says_how_the_champion_was_met() -> None:
    found = decide([], against({"all": DifferenceSeen(0, 0, 648)}, {"all": 0.02}))
    assert found.sentence.endswith("0 newly wrong (0.0 points, exact McNemar p = 1).")
    assert "etter than the champion" not in found.sentence


def test_newly_broken_is_what_the_champion_had_right_and_nothing_else() -> None:
    examples = [example("triage", n) for n in range(5)]
    right, wrong = {"correct": True}, {"correct": False}
    unscored: dict[str, bool] = {}
    before = [prediction(n, scores, "old") for n, scores in enumerate((right, right, wrong, right, right))]
    now = [prediction(n, scores, "new") for n, scores in enumerate((wrong, right, wrong, unscored))]
    (found,) = broken(examples, now, before)
    assert (found.id, found.skill, found.incident, found.got, found.champion) == (
        "triage-0000",
        "triage",
        "0",
        "new",
        "old",
    )
    assert found.prompt.startswith("task: triage this incident")
    assert json.loads(found.expected) == examples[0].answer
    (line,) = as_lines([found]).splitlines()
    assert json.loads(line)["id"] == "triage-0000"
