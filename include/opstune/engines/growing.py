"""Keys and values with room for what is to come, so that a token more does not copy all that was before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

#: Columns of room that are made at a time.
_ROOM = 64


class _Roomy(DynamicLayer):  # type: ignore[misc]  # transformers is read without its types
    """A layer whose keys and values are the filled beginnings of larger tensors."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._rooms: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._rooms is None or after > self._rooms[0].shape[-2]:
            self._rooms = _larger(self.keys, key_states, after), _larger(self.values, value_states, after)
        keys, values = self._rooms
        keys[:, :, before:after] = key_states
        values[:, :, before:after] = value_states
        self.keys, self.values = keys[:, :, :after], values[:, :, :after]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._rooms = None


def _larger(filled: torch.Tensor, coming: torch.Tensor, columns: int) -> torch.Tensor:
    rows, heads, _, width = coming.shape
    room = coming.new_empty((rows, heads, columns + _ROOM, width))
    if filled.numel():
        room[:, :, : filled.shape[-2]] = filled
    return room


def growing(filled: Iterable[tuple[torch.Tensor, torch.Tensor]], config: PreTrainedConfig) -> DynamicCache:
    """A cache that holds these keys and values, a pair a layer; a sliding window moves as transformers moves it."""
    cache = DynamicCache(config=config)
    cache.layers = [_Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    for layer, (keys, values) in zip(cache.layers, filled, strict=True):
        layer.update(keys, values)
    return cache
