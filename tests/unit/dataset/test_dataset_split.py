from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from opstune.dataset import split
from opstune.dataset.split import Assignments, components, draw, place
from opstune.errors import IntegrityError
from opstune.examples import Example
from opstune.settings import SplitShares

SHARES = SplitShares(train=0.8, validation=0.1, test=0.1)


def sides(examples: list[Example], placed: split.Placed) -> dict[str, str | None]:
    return {example.id: side for example, side in zip(examples, placed.splits, strict=True)}


@pytest.mark.parametrize(
    ("groups", "pairs", "together"),
    [
        (["a", "a", "b"], [], [{0, 1}, {2}]),
        (["a", "b", "c"], [(0, 2)], [{0, 2}, {1}]),
        (["a", "a", "b", "b", "c"], [(1, 2)], [{0, 1, 2, 3}, {4}]),
        (["a", "b", "c", "d"], [(0, 1), (1, 2), (2, 3)], [{0, 1, 2, 3}]),
        ([], [], []),
    ],
)
def test_components_join_groups_and_pairs_at_any_remove(
    groups: list[str], pairs: list[tuple[int, int]], together: list[set[int]]
) -> None:
    found: dict[int, set[int]] = {}
    for position, number in enumerate(components(groups, pairs)):
        found.setdefault(number, set()).add(position)
    assert sorted(found.values(), key=min) == together


def test_four_weeks_of_growth_move_nothing_and_test_only_grows(make: Any) -> None:
    """Each week brings new incidents, and duplicates that link old ones: across test and train as well."""
    known, assigned, before = [], Assignments(), dict[str, str | None]()
    pairs: list[tuple[int, int]] = []
    left_out: set[str] = set()
    for start in range(0, 3000, 600):
        known += [make(number) for number in range(start, start + 600)]
        pairs += [(number, number * 7 % start) for number in range(start, start + 30) if start]
        placed = place(known, pairs, assigned, SHARES, seed=7)
        now = sides(known, placed)
        members: dict[int, set[str]] = {}
        for example, number in zip(known, placed.component, strict=True):
            members.setdefault(number, set()).update({now[example.id]} - {None})
        assert all(len(of) == 1 for of in members.values()), "a component stands on two sides"
        for example, side in before.items():
            assert now[example] == side or (side, now[example]) in {
                ("train", None),
                ("validation", "test"),
                ("validation", None),
            }
        assert {e for e, side in before.items() if side == "test"} <= {e for e, side in now.items() if side == "test"}
        assert not {e for e in left_out if now[e]}
        left_out |= {e for e, side in now.items() if side is None and before.get(e) == "train"}
        before, assigned = now, placed.assignments
    assert left_out, "no train example was ever linked to the test set: this test shows nothing"
    for side, share in (("test", 0.1), ("validation", 0.1)):
        assert sum(found == side for found in before.values()) / len(known) == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({}, None),
        ({0: "test"}, ["test", "test"]),
        ({0: "validation"}, ["validation", "validation"]),
        ({0: "train"}, ["train", "train"]),
        ({0: "validation", 1: "test"}, ["test", "test"]),
        ({0: "train", 1: "test"}, [None, "test"]),
        ({0: "train", 1: "validation"}, [None, "validation"]),
    ],
)
def test_a_component_that_joins_splits_follows_the_strongest(
    make: Any, before: dict[int, split.Split], expected: list[str | None] | None
) -> None:
    pair = [make(0), make(30)]
    assigned = Assignments({pair[position].id: side for position, side in before.items()})
    found = place(pair, [(0, 1)], assigned, SHARES, seed=7).splits
    assert found == expected if expected else len(set(found)) == 1


def test_what_is_new_between_train_and_test_goes_to_neither(make: Any) -> None:
    trained, tested, new = make(0), make(30), make(60)
    assigned = Assignments({trained.id: "train", tested.id: "test"})
    placed = place([trained, tested, new], [(0, 2), (1, 2)], assigned, SHARES, seed=7)
    assert placed.splits == [None, "test", None]
    assert new.id not in placed.assignments.examples
    assert placed.assignments.examples[trained.id] == "train"


def test_a_group_is_remembered_when_its_examples_are_gone(make: Any) -> None:
    """Another record of a known incident follows it, even if the first has left the history."""
    assigned = place([make(0)], [], Assignments(groups={"INC-0": "test"}), SHARES, seed=7).assignments
    assert place([make(1)], [], assigned, SHARES, seed=7).splits == ["test"]


def test_placing_again_changes_nothing(make: Any) -> None:
    examples = [make(number) for number in range(300)]
    pairs = [(0, 100), (5, 200), (100, 299)]
    once = place(examples, pairs, Assignments(), SHARES, seed=7)
    again = place(examples, pairs, once.assignments, SHARES, seed=7)
    assert again == once


def test_an_unseen_component_falls_where_it_falls_whatever_else_there_is(make: Any) -> None:
    many = [make(number) for number in range(3600)]
    everything = sides(many, place(many, [], Assignments(), SHARES, seed=7))
    for part in (many[:1800], many[1200:3000], many[::-1]):
        alone = sides(part, place(part, [], Assignments(), SHARES, seed=7))
        assert alone == {key: everything[key] for key in alone}


def test_shares_are_near_at_1200_components_and_another_seed_splits_otherwise(make: Any) -> None:
    many = [make(number) for number in range(3600)]
    first = place(many, [], Assignments(), SHARES, seed=1).splits
    for side, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert first.count(side) / 3600 == pytest.approx(share, abs=0.03)
    assert place(many, [], Assignments(), SHARES, seed=2).splits != first


@pytest.mark.parametrize("positions", [[0.9, 0.8, 0.7, 0.6, 0.5], [0.01, 0.02, 0.03, 0.04, 0.05]])
def test_few_components_do_not_leave_a_split_empty_or_overfull(positions: list[float]) -> None:
    """Five components of twenty examples: bad luck of the hash would give 0 or 100 of them to test."""
    shares = SplitShares(train=0.6, validation=0.2, test=0.2)
    drawn = draw(
        [(position, number, 20) for number, position in enumerate(positions)], dict.fromkeys(split.SPLITS, 0), shares
    )
    assert sorted(drawn.values()) == ["test", "train", "train", "train", "validation"]


def test_the_splits_file_keeps_what_was_assigned(tmp_path: Path) -> None:
    path = tmp_path / "datasets" / "splits.parquet"
    assert split.read(path) == Assignments()
    assigned = Assignments({"e1": "train", "e2": "test"}, {"g1": "validation"})
    split.write(path, assigned)
    assert split.read(path) == assigned


def test_a_changed_byte_in_the_splits_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.parquet"
    split.write(path, Assignments({f"example-{n}": "train" for n in range(500)}))
    intact = path.read_bytes()
    for at in range(4, len(intact), len(intact) // 40):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 0xFF]) + intact[at + 1 :])
        try:
            found = split.read(path)
        except IntegrityError as error:
            assert "splits.parquet is damaged" in str(error)
        else:  # a byte of the footer that nobody reads, such as a statistic
            assert len(found.examples) == 500
            assert set(found.examples.values()) == {"train"}


def test_of_two_builds_that_overlap_the_second_waits(tmp_path: Path) -> None:
    path = tmp_path / "splits.parquet"
    inside, order = threading.Event(), list[str]()

    def second() -> None:
        inside.wait(5)
        with split.locked(path):
            order.append("second")
            assert split.read(path).examples == {"a": "test"}

    thread = threading.Thread(target=second)
    thread.start()
    with split.locked(path):
        inside.set()
        thread.join(0.2)
        order.append("first")
        split.write(path, Assignments({"a": "test"}))
    thread.join(5)
    assert order == ["first", "second"]
