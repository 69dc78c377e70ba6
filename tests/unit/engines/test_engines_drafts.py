"""What a draft is copied from, and that rows that were shown something apart go on together as each would alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, Qwen2Config

from opstune.engines.generation import Row, Shown, copied, joined
from opstune.engines.growing import growing


@pytest.mark.parametrize(
    ("sources", "answer", "most", "draft"),
    [
        ([1, 2, 3, 4, 5], [9, 2, 3], 6, [4, 5, 9, 2, 3]),
        ([1, 2, 3, 4, 5], [9, 2, 3], 1, [4]),
        ([1, 2, 3, 4, 1, 2, 5], [1, 2], 6, [5, 1, 2]),
        ([7, 7, 8], [1, 2, 3, 1, 2], 6, [3, 1, 2]),
        ([1, 2, 3], [2, 9], 6, []),
        ([1, 2, 3], [2, 3], 0, []),
        ([1, 2, 3], [1, 2], -1, []),
    ],
    ids=["quoted", "so many at most", "the latest", "said itself", "never seen", "no room", "the answer is full"],
)
def test_a_draft_is_what_followed_the_last_two_tokens(
    sources: list[int], answer: list[int], most: int, draft: list[int]
) -> None:
    assert copied(Row(answer[-1:], sources=sources, answer=answer), most) == draft


@pytest.mark.parametrize("window", [None, 6])
def test_rows_shown_apart_go_on_together_as_each_would_alone(window: int | None) -> None:
    """Also with columns that a draft left behind, and where a window has moved on."""
    torch.manual_seed(0)
    sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 0} if window else {}
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
        **sliding,
    )
    network = AutoModelForCausalLM.from_config(config).eval()
    texts = [torch.arange(9)[None], torch.arange(20, 24)[None]]
    parts, alone = [], []
    for text in texts:
        cache = DynamicCache(config=config)
        network(input_ids=text, past_key_values=cache)
        parts.append(Shown([Row([3])], cache, torch.ones_like(text)))
        alone.append(network(input_ids=torch.cat([text, torch.tensor([[3, 4, 5]])], dim=1)).logits[0, -3:])
    shown = joined(config, parts)
    assert [layer.is_sliding for layer in shown.cache.layers] == [window is not None] * 2
    assert shown.mask.tolist() == [[1] * 9, [0] * 5 + [1] * 4]
    for step, token in enumerate((3, 4, 5)):
        shown.mask = torch.cat([shown.mask, torch.ones((2, 1), dtype=torch.long)], dim=1)
        logits = network(
            input_ids=torch.tensor([[token], [token]]),
            attention_mask=shown.mask,
            position_ids=torch.tensor([[9 + step], [4 + step]]),
            past_key_values=shown.cache,
        ).logits
        for row, expected in enumerate(alone):
            assert torch.allclose(logits[row, -1], expected[step], atol=1e-4)


def test_a_cache_with_room_holds_what_one_without_would() -> None:
    config = Qwen2Config(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_key_value_heads=2)
    first = (torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4))
    ours, theirs = growing([first], config), DynamicCache([first], config=config)
    for step in range(140):
        if step == 70:
            for cache in (ours, theirs):
                cache.batch_select_indices(torch.tensor([0, 2]))
        more = torch.randn(3 if step < 70 else 2, 2, 1 + step % 3, 4)
        for found, expected in zip(ours.update(more, -more, 0), theirs.update(more, -more, 0), strict=True):
            assert torch.equal(found, expected)
