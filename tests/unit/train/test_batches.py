from __future__ import annotations

import random

import pytest

from opstune.train.batches import PACKED_POOL, POOL, Layout, Loader, Steps, collate, order, pack
from opstune.train.spec import split_batch

LENGTHS = random.Random(3).choices(range(20, 300), k=1003)


def padding(indices: list[int], size: int) -> float:
    """Share of the tensors that is padding."""
    batches = [indices[at : at + size] for at in range(0, len(indices), size)]
    made = sum(max(LENGTHS[i] for i in batch) * len(batch) for batch in batches)
    return 1 - sum(LENGTHS) / made


def test_every_example_comes_once_an_epoch() -> None:
    assert sorted(order(LENGTHS, 16, seed=7, epoch=0, pool=POOL)) == list(range(len(LENGTHS)))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert order(LENGTHS, 16, 7, 1, POOL) == order(LENGTHS, 16, 7, 1, POOL)
    assert order(LENGTHS, 16, 7, 0, POOL) != order(LENGTHS, 16, 7, 1, POOL) != order(LENGTHS, 16, 8, 1, POOL)


def test_steps_of_like_lengths_pad_little() -> None:
    shuffled = random.Random(1).sample(range(len(LENGTHS)), len(LENGTHS))
    assert padding(order(LENGTHS, 16, 7, 0, POOL), 16) < 0.06 < 0.2 < padding(shuffled, 16)


def test_packed_steps_are_drawn_at_random() -> None:
    """The mean length of a step is then near that of all: no step holds short examples, of one skill, alone."""
    drawn = [order(LENGTHS, 16, 7, 0, pool) for pool in (PACKED_POOL, POOL)]
    means = [[sum(LENGTHS[i] for i in step[at : at + 16]) / 16 for at in range(0, 992, 16)] for step in drawn]
    packed, padded = (max(found) - min(found) for found in means)
    assert packed < 0.6 * padded


def test_the_only_short_step_is_the_last() -> None:
    last = order(LENGTHS, 16, 7, 0, POOL)[-(len(LENGTHS) % 16) :]
    assert max(LENGTHS[i] for i in last) - min(LENGTHS[i] for i in last) < 300
    assert len(last) == 11


def test_steps_go_on_to_the_epoch_they_are_told() -> None:
    loader = Loader([{"input_ids": [1]}] * len(LENGTHS), batch_sampler=Steps(LENGTHS, 16, 7, POOL), collate_fn=len)
    first = list(loader.batch_sampler)
    loader.set_epoch(2)
    second = list(loader.batch_sampler)
    assert [index for step in second for index in step] == order(LENGTHS, 16, 7, 2, POOL)
    assert second != first
    assert len(loader) == len(second) == 63


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_steps_of_one(processes: int) -> None:
    whole = list(Steps(LENGTHS, 16, 7, POOL))
    shares = [list(Steps(LENGTHS, 16, 7, POOL, process, processes)) for process in range(processes)]
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(step) == sorted(index for part in parts for index in part)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def rows(*sizes: int) -> list[dict[str, list[int]]]:
    return [{"input_ids": [size] * size, "labels": [-100] + [size] * (size - 1)} for size in sizes]


@pytest.mark.parametrize(
    ("tokens", "packed", "expected"),
    [
        (None, False, [(3, 4), (2, 6)]),
        (11, False, [(2, 3), (2, 5), (1, 6)]),
        (11, True, [(1, 9), (1, 11)]),
        (3, True, [(1, 2), (1, 3), (1, 4), (1, 5), (1, 6)]),
        (100, True, [(1, 20)]),
    ],
    ids=["by rows", "by tokens with padding", "packed", "packed, none fits with another", "packed, all fit"],
)
def test_a_share_is_cut_into_parts_that_fit(tokens: int | None, packed: bool, expected: list[tuple[int, int]]) -> None:
    made = Layout(pad=0, rows=3, tokens=tokens, packed=packed)(rows(2, 3, 4, 5, 6))
    assert [tuple(part["input_ids"].shape) for part in made["parts"]] == expected
    assert made["tokens"] == 20


def test_packed_rows_are_filled_up_to_like_lengths_by_an_example_in_which_nothing_counts() -> None:
    given = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9], "labels": [-100, 9]}]
    made = Layout(pad=1, rows=4, tokens=None, packed=True, alike=4)(given)
    (part,) = made["parts"]
    assert part["input_ids"].tolist() == [[5, 6, 7, 8, 9, 1, 1, 1]]
    assert part["labels"].tolist() == [[-100, 6, 7, -100, 9, -100, -100, -100]]
    assert part["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert made["tokens"] == 5


@pytest.mark.parametrize("packed", [False, True])
def test_an_empty_share_is_a_part_in_which_nothing_counts(packed: bool) -> None:
    made = Layout(pad=9, rows=3, tokens=None, packed=packed)([])
    assert made["parts"][0]["input_ids"].tolist() == [[9]]
    assert made["parts"][0]["labels"].tolist() == [[-100]]
    assert made["tokens"] == 0


def test_packed_examples_stand_end_to_end_and_begin_at_position_0() -> None:
    made = pack([{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8, 9], "labels": [-100, 9]}])
    assert made["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert made["labels"].tolist() == [[-100, 6, 7, -100, 9]]


def test_rows_are_padded_on_the_right_where_nothing_counts() -> None:
    made = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [-100]}], pad=1)
    assert made["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert made["labels"].tolist() == [[-100, 6, 7], [-100, -100, -100]]
    assert set(made) == {"input_ids", "labels"}


@pytest.mark.parametrize(
    ("effective", "largest", "expected"),
    [(16, 16, (16, 1)), (16, 8, (8, 2)), (32, 4, (4, 8)), (12, 5, (4, 3)), (7, 3, (1, 7)), (16, 0, (1, 16))],
)
def test_a_smaller_batch_keeps_the_effective_one(effective: int, largest: int, expected: tuple[int, int]) -> None:
    assert split_batch(effective, largest) == expected
