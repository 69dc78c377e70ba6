from __future__ import annotations

from random import Random

import pytest

from opstune.collect.alerts.borders import Borders
from opstune.collect.alerts.episodes import Episode, Episodes, as_state, from_state, iso

POD = {"alertname": "Down", "pod": "a"}
MINUTE = 60_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE


def spans(episodes: Episodes) -> list[tuple[int, int]]:
    return [(one.start, one.last) for one in episodes.all()]


def every(interval: int, begin: int, end: int) -> list[int]:
    return list(range(begin, end + 1, interval))


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        pytest.param([], [], id="nothing fired"),
        pytest.param([5], [(5, 5)], id="one evaluation"),
        pytest.param(every(MINUTE, 0, HOUR), [(0, HOUR)], id="an hour"),
        pytest.param([0, 2 * MINUTE], [(0, 2 * MINUTE)], id="one evaluation was missed"),
        pytest.param([0, 2 * MINUTE + 1], [(0, 0), (2 * MINUTE + 1, 2 * MINUTE + 1)], id="longer than two intervals"),
        pytest.param([0, 3 * MINUTE, 6 * MINUTE], [(m, m) for m in (0, 3 * MINUTE, 6 * MINUTE)], id="flapping"),
        pytest.param([MINUTE, 0, MINUTE], [(0, MINUTE)], id="out of order and twice"),
    ],
)
def test_a_silence_of_more_than_two_intervals_ends_an_episode(
    moments: list[int], expected: list[tuple[int, int]]
) -> None:
    episodes = Episodes(lambda labels: 2 * MINUTE)
    episodes.add(POD, moments)
    assert spans(episodes) == expected


def test_each_alert_has_the_interval_of_its_own_group() -> None:
    episodes = Episodes(lambda labels: 10 * MINUTE if labels["alertname"] == "Slow" else 2 * MINUTE)
    for name in ("Slow", "Fast"):
        episodes.add({"alertname": name}, [0, 5 * MINUTE])
    assert [(one.alert, one.start) for one in episodes.all()] == [("Fast", 0), ("Slow", 0), ("Fast", 5 * MINUTE)]


def test_episodes_of_other_labels_do_not_touch_each_other() -> None:
    episodes = Episodes(lambda labels: 2 * MINUTE)
    episodes.add(POD, [0])
    episodes.add({**POD, "pod": "b"}, [MINUTE])
    assert spans(episodes) == [(0, 0), (MINUTE, MINUTE)]


@pytest.mark.parametrize("seed", range(5))
def test_stretches_of_any_length_give_what_the_whole_gives(seed: int) -> None:
    rng = Random(seed)
    moments = sorted(rng.sample(range(0, 3 * DAY, MINUTE), 900))
    whole = Episodes(lambda labels: 2 * MINUTE)
    whole.add(POD, moments)
    pieces = Episodes(lambda labels: 2 * MINUTE)
    given: list[tuple[int, int]] = []
    at = 0
    while at < 3 * DAY:
        end = at + rng.randrange(1, DAY)
        # Prometheus 2 gives the last sample before a stretch once more.
        pieces.add(POD, [one for one in moments if at - 1 <= one < end])
        given += [(one.start, one.last) for one in pieces.take(end)]
        pieces = Episodes(lambda labels: 2 * MINUTE, [from_state(as_state(one)) for one in pieces.all()])
        at = end
    assert given + spans(pieces) == spans(whole)


def test_an_episode_is_over_only_when_no_later_sample_can_belong_to_it() -> None:
    episodes = Episodes(lambda labels: 2 * MINUTE)
    episodes.add(POD, [0])
    (one,) = episodes.all()
    assert not episodes.over(one, 2 * MINUTE) and episodes.over(one, 2 * MINUTE + 1)
    assert episodes.take(2 * MINUTE) == [] and episodes.take(HOUR, wait=HOUR) == []
    assert [taken.start for taken in episodes.take(HOUR)] == [0] and episodes.all() == []


def test_what_was_taken_does_not_grow_any_more() -> None:
    episodes = Episodes(lambda labels: 2 * MINUTE)
    episodes.add(POD, [0, HOUR])
    assert [one.start for one in episodes.take(HOUR)] == [0]
    episodes.add(POD, [HOUR + MINUTE])
    assert spans(episodes) == [(HOUR, HOUR + MINUTE)]


def test_an_episode_is_called_by_its_alert_its_labels_and_its_start() -> None:
    one, same = Episode(POD, 1_790_000_000_123, 0), Episode(dict(reversed(POD.items())), 1_790_000_000_123, 99)
    assert one.id == same.id and one.id.startswith("Down/") and one.id.endswith("/2026-09-21T14:13:20.123Z")
    assert one.id != Episode({**POD, "pod": "b"}, 1_790_000_000_123, 0).id


def test_a_later_run_goes_on_from_the_last_border_that_lies_far_enough_back() -> None:
    borders = Borders({}, again=2 * DAY)
    assert borders.start() is None
    borders.seen = True
    for day in range(1, 7):
        borders.keep(day * DAY, [Episode(POD, day, day, ["runs/1"])])
    borders.advance(6 * DAY + HOUR)
    again = Borders(borders.position(), again=2 * DAY)
    assert again.start() == (4 * DAY, [Episode(POD, 4, 4, ["runs/1"])])
    assert again.position() == borders.position() and list(again.position()["borders"]) == [
        str(day * DAY) for day in (4, 5, 6)
    ]
    assert again.position()["highest"] == iso(6 * DAY + HOUR)


def test_a_run_that_is_killed_while_it_reads_again_does_not_lose_how_far_the_one_before_came() -> None:
    borders = Borders({}, again=DAY)
    borders.seen = True
    for day in range(1, 7):
        borders.keep(day * DAY, [])
    killed = Borders(borders.position(), again=DAY)
    killed.keep(6 * DAY, [])
    assert Borders(killed.position(), again=DAY).start() == (5 * DAY, [])


def test_there_is_no_position_until_something_was_seen() -> None:
    borders = Borders({}, again=DAY)
    borders.keep(DAY, [])
    assert borders.position() == {}
    borders.seen = True
    assert Borders(borders.position(), again=DAY).position() == borders.position() != {}


def test_until_a_border_is_old_enough_the_oldest_one_counts() -> None:
    borders = Borders({}, again=30 * DAY)
    borders.keep(DAY, [])
    borders.keep(2 * DAY, [])
    start = borders.start()
    assert start is not None and start[0] == DAY
