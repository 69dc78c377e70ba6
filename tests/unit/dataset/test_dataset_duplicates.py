from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opstune.dataset import shingles as shingles_of
from opstune.dataset.duplicates import find, jaccard, near_pairs
from opstune.dataset.minhash import RECALL, banding
from opstune.dataset.shingles import blocks, shingles

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentence(rng: Random, words: int = 45) -> str:
    return " ".join("".join(rng.choices(LETTERS, k=5)) for _ in range(words))


def edited(rng: Random, text: str, edits: int) -> str:
    words = text.split()
    for _ in range(edits):
        words.insert(rng.randrange(1, len(words)), rng.choice(["again", "still", "now"]))
    return " ".join(words)


@pytest.mark.parametrize(("edits", "share"), [(1, 1.0), (2, 1.0), (3, 0.97)])
def test_one_to_three_words_put_into_45_are_found(edits: int, share: float) -> None:
    rng = Random(edits)
    texts = [sentence(rng) for _ in range(200)]
    found = find([*texts, *(edited(rng, text, edits) for text in texts)], 0.7, seed=7)
    right = sum(found.near.get(200 + position) == position for position in range(200))
    assert right >= share * 200
    assert len(found.near) == right


def test_texts_that_share_half_their_words_are_not_alike() -> None:
    rng = Random(1)
    frame = sentence(rng, 22)
    assert near_pairs([f"{frame} {sentence(rng, 22)}" for _ in range(300)], 0.7, seed=7) == []


def test_candidates_are_verified_exactly() -> None:
    """0.7 is met at 0.7 and not a shingle below."""
    words = [f"w{n}" for n in range(19)]
    base, other = " ".join(words), " ".join([*words[:16], "x", "y", "z"])
    similarity = jaccard(*shingles([base, other]).sets())
    assert similarity == 14 / 20
    assert near_pairs([base, other], similarity, seed=7) == [(0, 1)]
    assert near_pairs([base, other], similarity + 0.001, seed=7) == []


def test_of_exact_duplicates_the_first_is_kept() -> None:
    found = find(["a b c d", "other words here now", "a b c d", "a b c d"], 0.7, seed=7)
    assert found.exact == {2: 0, 3: 0}
    assert not found.near
    assert sorted(found.pairs) == [(0, 2), (0, 3)]


def test_a_chain_of_small_changes_does_not_swallow_what_differs_but_stays_on_one_side() -> None:
    words = [f"w{n}" for n in range(60)]
    chain = [" ".join([*(f"x{n}" for n in range(shift)), *words[shift:]]) for shift in (0, 8, 16)]
    found = find(chain, 0.7, seed=7)
    assert found.near == {1: 0}
    assert sorted(found.pairs) == [(0, 1), (1, 2)]


def test_the_same_event_at_another_time_is_near() -> None:
    rng = Random(3)
    lines = [sentence(rng, 8) for _ in range(4)]
    early, late = (
        "\n".join(f"{day}T0{n}:1{n}:22Z INFO {line}" for n, line in enumerate(lines))
        for day in ("2026-01-01", "2026-02-17")
    )
    assert find([early, late], 0.99, seed=7).near == {1: 0}


@pytest.mark.parametrize("texts", [[], ["alone"], ["", "", " "], ["one", "two"]])
def test_few_or_empty_texts_do_no_harm(texts: list[str]) -> None:
    find(texts, 0.7, seed=7)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.85, 0.95, 1.0])
def test_bands_bring_up_enough_at_the_threshold(threshold: float) -> None:
    count, rows = banding(threshold)
    assert rows == 1 or 1 - (1 - threshold**rows) ** count >= RECALL


def test_thousands_of_repeats_of_one_alert_cost_no_millions_of_pairs() -> None:
    """All but the first go, and all hang together, without comparing each with each."""
    frame = [f"w{n}" for n in range(50)]
    found = find([" ".join([f"pod{n}", *frame]) for n in range(5000)], 0.7, seed=7)
    assert found.near == dict.fromkeys(range(1, 5000), 0)
    assert len(found.pairs) < 5000 * 100


def written_shingles(text: str) -> set[tuple[str, ...]]:
    """What shingles are, in words."""
    words = re.findall(r"\w+", shingles_of._TIME.sub("", text).lower())
    return set(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2 else {tuple(words)}


_PIECES = st.sampled_from(
    ["pod", "Pod", "a", "b_1", "é", "É", "\u212a", "k", "\0", "\n", ":", "10:22:31", "2026-01-05T10:22:31Z", "1:2", "٣"]
)


@given(
    st.lists(
        st.lists(_PIECES, max_size=9).map(" ".join) | st.lists(_PIECES, max_size=9).map("".join), min_size=1, max_size=9
    )
)
def test_shingles_are_equal_where_their_words_are(texts: list[str]) -> None:
    written = [written_shingles(text) for text in texts]
    numbers = list(shingles(texts).sets())
    assert [len(found) for found in numbers] == [len(words) for words in written]
    assert len(frozenset().union(*numbers)) == len(set().union(*written))


def test_blocks_give_what_the_whole_gives() -> None:
    rng = Random(5)
    texts = [sentence(rng, rng.randrange(0, 2000)) for _ in range(200)]
    found = {start + n: one for start, block in blocks(texts) for n, one in enumerate(block.sets())}
    assert list(found.values()) == list(shingles(texts).sets())
    assert list(found) == list(range(len(texts)))
