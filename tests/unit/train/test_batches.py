from __future__ import annotations

import random

import pytest

from opstune.train.batches import ByLength, collate, order
from opstune.train.spec import split_batch

LENGTHS = random.Random(3).choices(range(20, 300), k=1003)


def padding(indices: list[int], size: int) -> float:
    """Share of the tensors that is padding."""
    batches = [indices[at : at + size] for at in range(0, len(indices), size)]
    made = sum(max(LENGTHS[i] for i in batch) * len(batch) for batch in batches)
    return 1 - sum(LENGTHS) / made


def test_every_example_comes_once_an_epoch() -> None:
    assert sorted(order(LENGTHS, 16, seed=7, epoch=0)) == list(range(len(LENGTHS)))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert order(LENGTHS, 16, 7, 1) == order(LENGTHS, 16, 7, 1)
    assert order(LENGTHS, 16, 7, 0) != order(LENGTHS, 16, 7, 1) != order(LENGTHS, 16, 8, 1)


def test_steps_of_like_lengths_pad_little() -> None:
    shuffled = random.Random(1).sample(range(len(LENGTHS)), len(LENGTHS))
    assert padding(order(LENGTHS, 16, 7, 0), 16) < 0.06 < 0.2 < padding(shuffled, 16)


def test_the_only_short_step_is_the_last() -> None:
    last = order(LENGTHS, 16, 7, 0)[-(len(LENGTHS) % 16) :]
    assert max(LENGTHS[i] for i in last) - min(LENGTHS[i] for i in last) < 300
    assert len(last) == 11


def test_a_sampler_goes_on_to_the_epoch_it_is_told() -> None:
    sampler = ByLength(LENGTHS, 16, 7)
    first = list(sampler)
    sampler.set_epoch(2)
    assert list(sampler) == order(LENGTHS, 16, 7, 2) != first


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
