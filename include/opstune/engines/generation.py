"""Greedy generation in batches, each row under its own schema.

The loop is our own because transformers' ``generate`` can neither drop finished rows nor take forced tokens many at a
time. A row may carry a draft of its answer: one pass over prompt and draft tells what the model would have said at
every place of it, so that as much of the draft as the model itself chooses costs no steps (Leviathan et al., Fast
inference from transformers via speculative decoding, 2023; greedy decoding accepts a token or replaces it). Where it
is left, drafts are copied from what has been said (prompt lookup decoding, Saxena, 2023). A draft decides how fast an
answer comes, never what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch.nn import functional
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from opstune.engines.base import Likelihood
from opstune.engines.decoding import Constraint, Constraints
from opstune.engines.growing import growing

#: The logits of one pass over drafts take no more than this.
_LOGITS_BYTES = 2**30
#: Tokens of prompts that are read in one pass: what they leave behind must stay near the processor.
_READ = 1536
#: Tokens that all rows together are shown in a later pass, where their drafts decide, and the longest of these drafts.
_FED, _LONGEST_COPY = 24, 6


@dataclass(frozen=True)
class Model:
    """``ends`` are the tokens that end an answer, ``end`` is the one that ends a taught answer."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    constraints: Constraints
    ends: frozenset[int]

    @property
    def context(self) -> int:
        return int(self.network.config.max_position_embeddings)

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)


@dataclass
class Row:
    """One case under way.

    ``fresh`` are the tokens that the model has not seen yet, its draft apart; ``taught`` is the expected answer, which
    then is the draft. ``forced`` are the tokens of the answer that were taken without asking the model, but not yet
    found in the draft. ``sources`` are the tokens that later drafts are copied from.
    """

    fresh: list[int]
    constraint: Constraint | None = None
    taught: list[int] | None = None
    forced: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    seen: int = 0
    answer: list[int] = field(default_factory=list)
    likelihood: Likelihood | None = None

    @property
    def fed(self) -> list[int]:
        return self.fresh + self.draft


@dataclass
class Shown:
    """Rows that have not ended, and what they were shown: keys and values, and which columns are real."""

    rows: list[Row]
    cache: DynamicCache
    mask: torch.Tensor


@torch.inference_mode()
def generate(model: Model, batch: Sequence[Row], limit: int) -> None:
    """Extend each row's answer until its end, its grammar's end, or the limit of tokens.

    Prompts are read a few at a time, and the rows that have not ended by then go on all together.
    """
    for row in batch:
        row.sources = row.fresh + (row.taught or [])
    opening, common = _opening(model, batch)
    read = []
    for group in _groups(model, batch):
        cache = deepcopy(opening)
        cache.batch_repeat_interleave(len(group))
        shown = Shown(group, cache, torch.ones((len(group), common), dtype=torch.long))
        _step(model, shown, limit)
        if shown.rows:
            read.append(shown)
    if not read:
        return
    shown = joined(model.network.config, read)
    while shown.rows:
        longest = min(_LONGEST_COPY, _FED // len(shown.rows) - 1)
        for row in shown.rows:
            row.draft = copied(row, min(longest, limit - len(row.answer)))
        _step(model, shown, limit)


def _step(model: Model, shown: Shown, limit: int) -> None:
    """Show every row its fresh tokens and its draft, and let go of those that end."""
    tokens, positions, columns = _columns(shown.rows, model.tokenizer.pad_token_id or 0)
    mask = torch.cat([shown.mask, columns], dim=1)
    drafted = max(len(row.draft) for row in shown.rows)
    logits = model.network(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=shown.cache,
        logits_to_keep=drafted + 1,
    ).logits
    kept = []
    for index, row in enumerate(shown.rows):
        own = logits[index, drafted - len(row.draft) :]
        if row.taught is not None:
            row.likelihood = _likelihood(own, [*row.taught, model.end])
            row.taught = None
        rejected = len(row.draft) - _advance(model, row, own, limit)
        if row.fresh:
            kept.append(index)
            mask[index, mask.shape[1] - rejected :] = 0  # what was not accepted stays in the cache, unseen
            row.seen -= rejected
    if len(kept) < len(shown.rows):
        chosen = torch.tensor(kept, dtype=torch.long)
        shown.cache.batch_select_indices(chosen)
        mask = mask[chosen]
    shown.rows, shown.mask = [shown.rows[index] for index in kept], mask


def _opening(model: Model, rows: Sequence[Row]) -> tuple[DynamicCache, int]:
    """The keys and values of what all prompts begin with, worked out once, and how many tokens that is."""
    cache = DynamicCache(config=model.network.config)
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(row.fresh for row in rows), strict=False))
    common = min(sum(1 for _ in alike), min(len(row.fresh) for row in rows) - 1)
    if len(rows) == 1 or common == 0:
        return cache, 0
    model.network(input_ids=torch.tensor([rows[0].fresh[:common]]), past_key_values=cache, logits_to_keep=1)
    for row in rows:
        row.fresh, row.seen = row.fresh[common:], common
    return cache, common


def _groups(model: Model, rows: Sequence[Row]) -> list[list[Row]]:
    """Rows side by side in groups: so many tokens at most, and no more than their logits have room for."""
    found: list[list[Row]] = []
    for row in rows:
        group = [*found[-1], row] if found else [row]
        drafted = max(len(one.draft) for one in group)
        logits = 4 * model.constraints.vocabulary * (drafted + 1) * len(group)
        longest = max(len(one.fed) for one in group)
        if found and len(group) * longest <= _READ and logits <= _LOGITS_BYTES:
            found[-1] = group
        else:
            found.append([row])
    return found


def joined(config: PreTrainedConfig, parts: Sequence[Shown]) -> Shown:
    """Rows that were shown something apart, together: columns that are not real stay behind, or begin a row."""
    real = [row.bool() for part in parts for row in part.mask]
    widths = [int(row.sum()) for row in real]
    width = max(widths)

    def beside(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        rows = (row for tensor in tensors for row in tensor)
        seen = (row[:, found[-row.shape[1] :]] for row, found in zip(rows, real, strict=True))
        return torch.stack([functional.pad(row, (0, 0, width - row.shape[1], 0)) for row in seen])

    layers = zip(*(part.cache.layers for part in parts), strict=True)
    filled = [(beside(one.keys for one in layer), beside(one.values for one in layer)) for layer in layers]
    mask = torch.zeros((len(real), width), dtype=torch.long)
    for index, own in enumerate(widths):
        mask[index, width - own :] = 1
    rows = [row for part in parts for row in part.rows]
    return Shown(rows, growing(filled, config), mask)


def copied(row: Row, most: int) -> list[int]:
    """A draft: what followed the last two tokens where they stood last, in the answer, what is expected or the prompt.

    Answers quote their prompt, and a wrong one still holds parts of the expected one.
    """
    text = row.sources + row.answer
    before, last = text[-2:]
    for place in range(len(text) - 2, 0, -1):
        if text[place] == last and text[place - 1] == before:
            return text[place + 1 : place + 1 + max(most, 0)]
    return []


def _columns(live: Sequence[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows' tokens to be seen, their positions and what of it is real; (rows, longest), filled from the left."""
    fed = [row.fed for row in live]
    width = max(map(len, fed))
    tokens = torch.full((len(live), width), pad)
    positions = torch.zeros((len(live), width), dtype=torch.long)
    real = torch.zeros((len(live), width), dtype=torch.long)
    for index, (row, ids) in enumerate(zip(live, fed, strict=True)):
        start = width - len(ids)
        tokens[index, start:] = torch.tensor(ids)
        positions[index, start:] = torch.arange(row.seen, row.seen + len(ids))
        real[index, start:] = 1
        row.seen += len(ids)
    return tokens, positions, real


def _likelihood(logits: torch.Tensor, taught: list[int]) -> Likelihood:
    """Of the tokens that these logits, (tokens, vocabulary), should have told."""
    told = functional.cross_entropy(logits.float(), torch.tensor(taught), reduction="sum")
    return Likelihood(float(told), len(taught))


def _advance(model: Model, row: Row, logits: torch.Tensor, limit: int) -> int:
    """Give a row its next tokens; returns how many of its draft the model chose itself.

    ``logits`` are (draft + 1, vocabulary): those after the prompt, and after each token of the draft. What the row
    must be shown next is left in ``fresh``: nothing when its answer has ended.
    """
    accepted, draft, following = 0, row.draft, row.forced
    row.fresh, row.draft, row.forced = [], [], []
    while True:
        for index, token in enumerate(following):
            if accepted == len(draft) or draft[accepted] != token:
                row.fresh = following[index:]
                break
            accepted += 1
        row.answer += following
        if (row.constraint and row.constraint.finished) or len(row.answer) >= limit:
            row.fresh = []
        elif not row.fresh:
            token = _choice(model, row.constraint, logits[accepted])
            if token not in model.ends:
                following = row.constraint.take(token) if row.constraint else [token]
                continue
        return accepted


def _choice(model: Model, constraint: Constraint | None, logits: torch.Tensor) -> int:
    if constraint:
        allowed = torch.from_numpy(model.constraints.allowed([constraint])[0])
        logits = logits.masked_fill(~allowed, -torch.inf)
    return int(logits.argmax())
