"""Greedy generation in batches, each row under its own schema.

The loop is our own because transformers' ``generate`` can neither drop finished rows nor take forced tokens many at a
time. A row may carry a draft of its answer: one pass over prompt and draft tells what the model would have said at
every place of it, so that as much of the draft as the model itself chooses costs no steps (Leviathan et al., Fast
inference from transformers via speculative decoding, 2023; greedy decoding accepts a token or replaces it). The draft
decides how fast an answer comes, never what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from opstune.engines.base import Likelihood
from opstune.engines.decoding import Constraint, Constraints

#: The logits of one pass over drafts take no more than this.
_LOGITS_BYTES = 2**30


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
    found in the draft.
    """

    fresh: list[int]
    constraint: Constraint | None = None
    taught: list[int] | None = None
    forced: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    seen: int = 0
    answer: list[int] = field(default_factory=list)
    likelihood: Likelihood | None = None

    @property
    def fed(self) -> list[int]:
        return self.fresh + self.draft


def batches(model: Model, rows: Sequence[Row], most: int) -> list[list[Row]]:
    """Rows of about the same length together: at most so many, and no more than their logits have room for."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.fed)):
        longest = max((len(other.draft) for other in (found[-1] if found else [])), default=0)
        size = 4 * model.constraints.vocabulary * (max(longest, len(row.draft)) + 1)
        if found and len(found[-1]) < min(most, _LOGITS_BYTES // size):
            found[-1].append(row)
        else:
            found.append([row])
    return found


@torch.inference_mode()
def generate(model: Model, batch: Sequence[Row], limit: int) -> None:
    """Extend each row's answer until its end, its grammar's end, or the limit of tokens."""
    live = list(batch)
    cache, mask = _shared(model, live)
    while live:
        tokens, positions, columns = _columns(live, model.tokenizer.pad_token_id or 0)
        mask = torch.cat([mask, columns], dim=1)
        drafted = max(len(row.draft) for row in live)
        logits = model.network(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=drafted + 1,
        ).logits
        kept = []
        for index, row in enumerate(live):
            own = logits[index, drafted - len(row.draft) :]
            if row.taught is not None:
                row.likelihood = _likelihood(own, [*row.taught, model.end])
                row.taught = None
            rejected = len(row.draft) - _advance(model, row, own, limit)
            if row.fresh:
                kept.append(index)
                mask[index, mask.shape[1] - rejected :] = 0  # what was not accepted stays in the cache, unseen
                row.seen -= rejected
        if kept and len(kept) < len(live):
            chosen = torch.tensor(kept)
            cache.batch_select_indices(chosen)
            mask = mask[chosen]
        live = [live[index] for index in kept]


def _shared(model: Model, rows: Sequence[Row]) -> tuple[DynamicCache, torch.Tensor]:
    """The keys and values of what all prompts begin with, worked out once, and the mask over them."""
    cache = DynamicCache(config=model.network.config)
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(row.fresh for row in rows), strict=False))
    common = min(sum(1 for _ in alike), min(len(row.fresh) for row in rows) - 1)
    if len(rows) > 1 and common > 0:
        model.network(input_ids=torch.tensor([rows[0].fresh[:common]]), past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(rows))
        for row in rows:
            row.fresh, row.seen = row.fresh[common:], common
        return cache, torch.ones((len(rows), common), dtype=torch.long)
    return cache, torch.zeros((len(rows), 0), dtype=torch.long)


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
    told = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(taught), reduction="sum")
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
