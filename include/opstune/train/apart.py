"""Attention over packed examples through PyTorch's own kernel, one example after the other: no padding and no mask.

sdpa wants a mask of tokens by tokens to keep packed examples apart, and computes all of it. Here each example is
attended to by itself, causally, which is what its fast kernels are made for. Importing this registers it with
transformers as ``apart``; where an example begins is told by ``position_ids``, which are 0 there.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "apart"


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    position_ids: torch.Tensor,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function over one packed row.

    Args:
        query: (1, heads, tokens, width of a head); key and value may have fewer heads.
        position_ids: (1, tokens).

    Returns:
        What every token attends to, (1, tokens, heads, width), and no weights.
    """
    begins = position_ids[0].eq(0).nonzero().squeeze(1).tolist()
    sizes = [end - begin for begin, end in zip(begins, [*begins[1:], position_ids.shape[1]], strict=True)]
    parts = zip(*(torch.split(tensor, sizes, dim=2) for tensor in (query, key, value)), strict=True)
    seen = [
        sdpa_attention_forward(module, *part, attention_mask=_window(size, sliding_window, query.device), **options)[0]
        for size, part in zip(sizes, parts, strict=True)
    ]
    return torch.cat(seen, dim=1), None


def _window(size: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """What a token may see where the base looks back a limited way only; none where that is everything before it."""
    if window is None or size <= window:
        return None
    back = torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)
    return ((back >= 0) & (back < window))[None, None]


def _no_mask(*_: Any, **__: Any) -> None:
    """Examples are kept apart by being attended to apart."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
