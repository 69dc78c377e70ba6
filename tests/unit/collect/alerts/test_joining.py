from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opstune.collect.alerts.episodes import Episode
from opstune.collect.alerts.joining import Action, answer, failures, group, join, records

MINUTE = 60_000
SLACK = 30 * MINUTE
START, END = 100 * MINUTE, 160 * MINUTE
DOWN = Episode({"alertname": "Down", "pod": "a", "namespace": "shop", "severity": "page"}, START, END)
OTHER_POD = Episode({**DOWN.labels, "pod": "b"}, START, END)
AGAIN = Episode(DOWN.labels, 200 * MINUTE, 220 * MINUTE)
DONE = Action("db/1", START + MINUTE, "Down", {"pod": "a"}, "restart_pod", {"pod": "a"}, "success")


def act(**changes: Any) -> Action:
    return replace(DONE, **changes)


@pytest.mark.parametrize(
    ("action", "fits"),
    [
        pytest.param(act(), True, id="name, labels and time"),
        pytest.param(act(alert="Up"), False, id="another alert"),
        pytest.param(act(labels={"pod": "b"}), False, id="another pod"),
        pytest.param(act(labels={}), True, id="no labels: by name and time"),
        pytest.param(act(labels={"region": "eu"}), True, id="a label that the episode lacks says nothing"),
        pytest.param(act(labels={"pod": "a", "severity": "info"}), False, id="one of two labels differs"),
        pytest.param(act(at=START - SLACK), True, id="slack before the start"),
        pytest.param(act(at=START - SLACK - 1), False, id="earlier than slack before the start"),
        pytest.param(act(at=END + SLACK), True, id="slack after the end"),
        pytest.param(act(at=END + SLACK + 1), False, id="later than slack after the end"),
        pytest.param(act(agree_on=("namespace",)), False, id="the action lacks a label that must agree"),
        pytest.param(act(agree_on=("region",), labels={"region": "eu"}), False, id="the episode lacks it"),
        pytest.param(act(agree_on=("pod",)), True, id="a label that must agree does"),
        pytest.param(act(alert=None), False, id="no name and nothing that must agree"),
        pytest.param(act(alert=None, agree_on=("pod",)), True, id="no name, but a label that must agree does"),
        pytest.param(act(alert=None, agree_on=("pod",), labels={"pod": "b"}), False, id="no name, and it differs"),
    ],
)
def test_an_action_fits_by_name_labels_and_time(action: Action, fits: bool) -> None:
    assert join([action], [DOWN], SLACK) == ([(action, DOWN)] if fits else [])


@pytest.mark.parametrize(
    ("action", "episodes", "expected"),
    [
        pytest.param(act(at=END + 15 * MINUTE), [DOWN, AGAIN], DOWN, id="nearer to the end of the first"),
        pytest.param(act(at=END + 25 * MINUTE), [DOWN, AGAIN], AGAIN, id="nearer to the start of the next"),
        pytest.param(act(at=END + 20 * MINUTE), [DOWN, AGAIN], AGAIN, id="as near to both: the later one"),
        pytest.param(act(labels={}), [OTHER_POD, replace(DOWN, start=START - 1)], OTHER_POD, id="the later start"),
        pytest.param(
            act(labels={"pod": "a"}),
            [Episode({"alertname": "Down"}, START + 1, END), DOWN],
            DOWN,
            id="more labels in common",
        ),
    ],
)
def test_of_several_episodes_the_nearest_has_the_action(
    action: Action, episodes: list[Episode], expected: Episode
) -> None:
    for order in (episodes, episodes[::-1]):
        assert join([action], order, SLACK) == [(action, expected)]


def test_one_episode_may_have_several_actions_and_one_action_only_one_episode() -> None:
    actions = [act(), act(key="db/2", at=START + 2 * MINUTE), act(key="db/3", labels={"pod": "b"})]
    joined = join(actions, [DOWN, OTHER_POD, AGAIN], SLACK)
    assert [(action.key, episode) for action, episode in joined] == [
        ("db/1", DOWN),
        ("db/2", DOWN),
        ("db/3", OTHER_POD),
    ]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        pytest.param([], None, id="nothing is known"),
        pytest.param([act(key="1"), act(key="2", at=DONE.at + 1)], "2", id="the last one that succeeded"),
        pytest.param([act(key="1"), act(key="2", at=DONE.at + 1, outcome="failure")], "1", id="not one that failed"),
        pytest.param([act(key="1", outcome="failure")], None, id="only a failure"),
        pytest.param([act(key="1"), act(key="2", at=DONE.at + 1, outcome="unknown")], "1", id="success before unknown"),
        pytest.param([act(key="1", outcome="unknown")], "1", id="an outcome that nobody knows"),
        pytest.param([act(key="1", function="none")], "1", id="nothing had to be done"),
        pytest.param([act(key="1"), act(key="2", at=DONE.at + 1, function="none")], "1", id="acknowledged afterwards"),
        pytest.param(
            [act(key="1", outcome="failure"), act(key="2", at=DONE.at + 1, function="none")],
            None,
            id="acknowledged after a failure",
        ),
        pytest.param([act(key="1", function=None, outcome="unknown")], "1", id="in words only"),
        pytest.param([act(key="1", at=DONE.at + 9, function=None), act(key="2")], "2", id="a function before words"),
        pytest.param([act(key="1", function=None, outcome="failure")], None, id="a failure in words"),
    ],
)
def test_the_answer_is_the_last_action_that_helped(actions: list[Action], expected: str | None) -> None:
    for order in (actions, actions[::-1]):
        found = answer(order)
        assert (found.key if found else None) == expected


def test_an_action_that_failed_is_a_record_of_its_own() -> None:
    failed = act(key="db/0", outcome="failure", function="drain_node", parameters={"node": "n"})
    whole, own = records(DOWN, [failed, DONE], False, {"summary": "down"}, "firing")
    assert (whole["id"], whole["outcome"], whole["action"]["function"]) == (DOWN.id, "success", "restart_pod")
    assert (own["id"], own["outcome"], own["action"]["function"]) == ("db/0", "failure", "drain_node")
    assert own["labels"] == whole["labels"] and own["incident"] == whole["incident"]
    assert failures([act(function=None, outcome="failure")]) == []


def test_an_episode_without_an_action_has_none() -> None:
    (one,) = records(DOWN, [], False, {}, "firing")
    assert (one["action"], one["outcome"], one["minutes"], one["ends_at"]) == (
        None,
        "unknown",
        60.0,
        "1970-01-01T02:40:00.000Z",
    )
    (open_one,) = records(DOWN, [], True, {}, "firing")
    assert open_one["ends_at"] is open_one["minutes"] is None and open_one["id"] == one["id"]


def test_an_action_in_words_is_told_but_teaches_no_outcome() -> None:
    (one,) = records(DOWN, [act(function=None, notes="rolled back by hand")], False, {}, "firing")
    assert (one["action"]["notes"], one["action"]["function"], one["outcome"]) == (
        "rolled back by hand",
        None,
        "unknown",
    )


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        pytest.param((DOWN, []), (AGAIN, []), True, id="the same alert again on that day"),
        pytest.param((DOWN, []), (OTHER_POD, []), False, id="another pod"),
        pytest.param((DOWN, []), (replace(AGAIN, start=24 * 60 * MINUTE), []), False, id="the day after"),
        pytest.param((DOWN, [act(incident="I-1")]), (OTHER_POD, [act(incident="I-1")]), True, id="one incident"),
        pytest.param((DOWN, [act(incident="I-1")]), (DOWN, [act(incident="I-2")]), False, id="another incident"),
        pytest.param(
            (DOWN, [act(at=DONE.at + 1, incident="I-2"), act(incident="I-1")]),
            (DOWN, [act(incident="I-1")]),
            True,
            id="the incident of the first action",
        ),
    ],
)
def test_one_incident_is_one_group(
    left: tuple[Episode, list[Action]], right: tuple[Episode, list[Action]], same: bool
) -> None:
    assert (group(*left) == group(*right)) is same
