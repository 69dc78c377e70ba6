"""Hugging Face models on the CPU: greedy, in batches, under each case's schema.

The loop is our own because ``generate`` can neither drop finished rows nor take forced tokens many at a time; on JSON
answers that saves half of the steps.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from llguidance import LLTokenizer
from transformers import AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from opstune.engines.base import Answer, Case, Traits, parse
from opstune.engines.decoding import Constraint, Constraints
from opstune.engines.prompts import chat, identity
from opstune.engines.weights import learnt_on_nf4, load
from opstune.errors import EvaluationError, OpstuneError
from opstune.skills import get

log = logging.getLogger(__name__)

_WEIGHTS = ("*.safetensors", "*config.json", "tokenizer.json", "*.jinja")


@dataclass
class _Row:
    """One case under way: ``fresh`` are the tokens that the model has not seen yet."""

    place: int
    fresh: list[int]
    constraint: Constraint | None
    seen: int = 0
    answer: list[int] = field(default_factory=list)

    def take(self, tokens: list[int]) -> None:
        self.answer += tokens
        self.fresh = tokens


class HuggingFaceEngine:
    """A base model, or what was trained from it: an adapter is merged in memory. It is loaded at the first question."""

    def __init__(
        self,
        base: Path,
        adapter: Path | None = None,
        *,
        batch_size: int,
        max_new_tokens: int,
        threads: int,
        tokenizer: Path | None = None,
    ) -> None:
        """
        Args:
            adapter: the folder of a training, which may hold whole weights too.
            tokenizer: the folder of another tokenizer than the model's own: a base without a chat template is asked
                as the model that was trained from it.

        Raises:
            EvaluationError: the base or the adapter holds no readable weights.
        """
        self._base, self._adapter, self._tokenizer = base, adapter, tokenizer
        self._batch_size, self._max_new_tokens, self._threads = batch_size, max_new_tokens, threads
        folders = [base] if adapter is None else [base, adapter]
        names = [f"{folder.name}@{identity(_files(folder))}" for folder in folders]
        if tokenizer is not None:
            names.append(f"tokenizer@{identity(_tokenizer_files(tokenizer))}")
        self.name = f"hugging-face:{'+'.join(names)}"
        size = sum(file.stat().st_size for folder in folders for file in _files(folder))
        self.traits = Traits(batch_size, {"max_new_tokens": max_new_tokens}, size)
        self._loaded: _Model | None = None

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the cases; latency is none, since cases share a batch.

        A case whose prompt leaves no room for an answer, or whose schema allows none, is answered with nothing.

        Raises:
            EvaluationError: the model cannot be loaded or stopped answering.
        """
        try:
            if self._loaded is None:
                self._loaded = _load(self._base, self._adapter, self._tokenizer, self._threads)
            return self._answer(self._loaded, cases, constrained, on_progress)
        except OpstuneError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise EvaluationError(f"the model stopped answering: {error}", self.name, "See the log above.") from error

    def _answer(
        self, model: _Model, cases: Sequence[Case], constrained: bool, on_progress: Callable[[int, int], None] | None
    ) -> list[Answer]:
        rows = [self._row(model, place, case, constrained) for place, case in enumerate(cases)]
        waiting = sorted((row for row in rows if row.fresh), key=lambda row: len(row.fresh))
        done = len(cases) - len(waiting)
        for start in range(0, len(waiting), self._batch_size):
            batch = waiting[start : start + self._batch_size]
            _generate(model, batch, self._max_new_tokens)
            done += len(batch)
            if on_progress:
                on_progress(done, len(cases))
        texts = [model.tokenizer.decode(row.answer, skip_special_tokens=False) for row in rows]
        return [
            Answer(text, parse(case.skill, text), len(row.answer), None)
            for case, row, text in zip(cases, rows, texts, strict=True)
        ]

    def _row(self, model: _Model, place: int, case: Case, constrained: bool) -> _Row:
        """The prompt's tokens; none where the case cannot be answered."""
        text = model.tokenizer.apply_chat_template(chat(case), tokenize=False, add_generation_prompt=True)
        prompt = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(prompt) + self._max_new_tokens > model.context:
            log.warning("a %s case of %d tokens does not fit; it counts as unanswered", case.skill, len(prompt))
            return _Row(place, [], None)
        if not constrained:
            return _Row(place, prompt, None)
        constraint = model.constraints.start(case.skill, get(case.skill).schema(case.context))
        if constraint is None:
            return _Row(place, [], None)
        forced = constraint.forced()
        return _Row(place, prompt + forced, constraint, answer=list(forced))


@dataclass(frozen=True)
class _Model:
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    constraints: Constraints
    ends: frozenset[int]

    @property
    def context(self) -> int:
        return int(self.network.config.max_position_embeddings)


def _files(folder: Path) -> list[Path]:
    return [file for pattern in _WEIGHTS for file in folder.glob(pattern)]


def _tokenizer_files(folder: Path) -> list[Path]:
    return [file for pattern in ("tokenizer.json", "*.jinja") for file in folder.glob(pattern)]


def _load(base: Path, adapter: Path | None, tokenizer_folder: Path | None, threads: int) -> _Model:
    torch.set_num_threads(threads)
    disable_progress_bar()
    network = load(base, adapter, torch.float32, nf4=adapter is not None and learnt_on_nf4(adapter))
    own = adapter if adapter and (adapter / "tokenizer.json").is_file() else base
    with_tokenizer = tokenizer_folder or own
    tokenizer = AutoTokenizer.from_pretrained(with_tokenizer, local_files_only=True)
    vocabulary = int(network.config.vocab_size)
    constraints = Constraints(_guided_tokenizer(tokenizer, vocabulary), vocabulary)
    ends = network.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return _Model(network.eval(), tokenizer, constraints, frozenset({*listed, tokenizer.eos_token_id} - {None}))


def _guided_tokenizer(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> LLTokenizer:
    """The tokenizer as the grammar sees it: bytes as they are, and control tokens that no text can spell.

    Otherwise a label in decomposed Unicode, or one that reads ``<|im_end|>``, could not be written.
    """
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    if (state.get("normalizer") or {}).get("type") in ("NFC", "NFD", "NFKC", "NFKD"):
        state["normalizer"] = None
    state["truncation"] = state["padding"] = None
    vocabulary_of_model = state["model"]["vocab"]
    for entry in state["added_tokens"]:
        if entry["special"]:
            hidden = f"\U000f0000{entry['id']}"
            if entry["content"] in vocabulary_of_model:  # a tokenizer trained with its control tokens lists them twice
                vocabulary_of_model[hidden] = vocabulary_of_model.pop(entry["content"])
            entry["content"] = hidden
    return LLTokenizer(json.dumps(state), n_vocab=vocabulary, eos_token=tokenizer.eos_token_id)


@torch.inference_mode()
def _generate(model: _Model, batch: list[_Row], limit: int) -> None:
    """Extend each row's answer until its end, its grammar's end, or the limit of tokens."""
    live = [row for row in batch if not (row.constraint and row.constraint.finished)]
    cache = DynamicCache(config=model.network.config)
    mask = torch.zeros((len(live), 0), dtype=torch.long)
    while live:
        tokens, positions, columns = _columns(live, model.tokenizer.pad_token_id or 0)
        mask = torch.cat([mask, columns], dim=1)
        logits = model.network(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]
        kept = _advance(model, live, logits, limit)
        if kept and len(kept) < len(live):
            chosen = torch.tensor(kept)
            cache.batch_select_indices(chosen)
            mask = mask[chosen]
        live = [live[index] for index in kept]


def _columns(live: Sequence[_Row], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows' fresh tokens, their positions and what of it is real; (rows, longest), filled from the left."""
    width = max(len(row.fresh) for row in live)
    tokens = torch.full((len(live), width), pad)
    positions = torch.zeros((len(live), width), dtype=torch.long)
    real = torch.zeros((len(live), width), dtype=torch.long)
    for index, row in enumerate(live):
        start, count = width - len(row.fresh), len(row.fresh)
        tokens[index, start:] = torch.tensor(row.fresh)
        positions[index, start:] = torch.arange(row.seen, row.seen + count)
        real[index, start:] = 1
        row.seen += count
    return tokens, positions, real


def _advance(model: _Model, live: Sequence[_Row], logits: torch.Tensor, limit: int) -> list[int]:
    """Give each row its next tokens; returns the rows that go on."""
    bound = [(index, row.constraint) for index, row in enumerate(live) if row.constraint]
    if bound:
        allowed = torch.from_numpy(model.constraints.allowed([constraint for _, constraint in bound]))
        places = torch.tensor([index for index, _ in bound])
        logits[places] = logits[places].masked_fill(~allowed, -torch.inf)
    kept = []
    for index, (row, token) in enumerate(zip(live, logits.argmax(dim=-1).tolist(), strict=True)):
        if token in model.ends:
            continue
        row.take(row.constraint.take(token) if row.constraint else [token])
        if not (row.constraint and row.constraint.finished) and len(row.answer) < limit:
            kept.append(index)
    return kept
