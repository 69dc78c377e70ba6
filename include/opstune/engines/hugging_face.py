"""Hugging Face models on the CPU: greedy, in batches, under each case's schema."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from llguidance import LLTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from opstune.engines.base import Answer, Case, Traits, parse
from opstune.engines.decoding import Constraints
from opstune.engines.generation import Model, Row, generate
from opstune.engines.prompts import chat, identity
from opstune.engines.weights import learnt_on_nf4, load
from opstune.errors import EvaluationError, OpstuneError
from opstune.skills import get

log = logging.getLogger(__name__)

_WEIGHTS = ("*.safetensors", "*config.json", "tokenizer.json", "*.jinja")
#: How SentencePiece spells a space.
_SPACE = "\u2581"


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
            threads: each answers a share of a batch.
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
        self._loaded: Model | None = None

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the cases; latency is none, since cases share a batch.

        What is expected is also tried as a draft, which makes a good model several times faster.

        A case whose prompt leaves no room for an answer, or whose schema allows none, is answered with nothing.

        Raises:
            EvaluationError: the model cannot be loaded or stopped answering.
        """
        try:
            if self._loaded is None:
                self._loaded = _load(self._base, self._adapter, self._tokenizer, self._threads)
            return self._answer(self._loaded, cases, expected or [None] * len(cases), constrained, on_progress)
        except OpstuneError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise EvaluationError(f"the model stopped answering: {error}", self.name, "See the log above.") from error

    def _answer(
        self,
        model: Model,
        cases: Sequence[Case],
        expected: Sequence[str | None],
        constrained: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> list[Answer]:
        rows = [self._row(model, case, right, constrained) for case, right in zip(cases, expected, strict=True)]
        waiting = sorted((row for row in rows if row.fresh), key=lambda row: len(row.fed))  # so that few are filled up
        done = len(cases) - len(waiting)
        number = self._threads * math.ceil(len(waiting) / self._batch_size)
        shares = [share for n in range(number) if (share := waiting[n::number])]  # alike, so that none waits long
        with _workers(self._threads) as pool:
            answered = pool.map(partial(generate, model, limit=self._max_new_tokens), shares)
            for share, _ in zip(shares, answered, strict=True):
                done += len(share)
                if on_progress:
                    on_progress(done, len(cases))
        texts = [model.tokenizer.decode(row.answer, skip_special_tokens=False) for row in rows]
        return [
            Answer(text, parse(case.skill, text), len(row.answer), None, row.likelihood)
            for case, row, text in zip(cases, rows, texts, strict=True)
        ]

    def _row(self, model: Model, case: Case, expected: str | None, constrained: bool) -> Row:
        """The prompt's tokens; none where the case cannot be answered."""
        text = model.tokenizer.apply_chat_template(chat(case), tokenize=False, add_generation_prompt=True)
        prompt = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(prompt) + self._max_new_tokens > model.context:
            log.warning("a %s case of %d tokens does not fit; it counts as unanswered", case.skill, len(prompt))
            return Row([])
        row = Row(prompt)
        if constrained:
            row.constraint = model.constraints.start(case.skill, get(case.skill).schema(case.context))
            if row.constraint is None:
                return Row([])
            row.forced = row.constraint.forced()
        row.draft = list(row.forced)
        if expected is not None:
            taught = _within_text(expected, model.tokenizer)
            if len(prompt) + len(taught) < model.context:
                row.draft = row.taught = taught
        return row


@contextmanager
def _workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each answer a share of the cases: torch's own would wait for one another at every small product."""
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _files(folder: Path) -> list[Path]:
    return [file for pattern in _WEIGHTS for file in folder.glob(pattern)]


def _tokenizer_files(folder: Path) -> list[Path]:
    return [file for pattern in ("tokenizer.json", "*.jinja") for file in folder.glob(pattern)]


def _within_text(answer: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens of an answer as they follow a prompt: SentencePiece's kind sets a space before what begins a text."""
    alone = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if not tokenizer.convert_ids_to_tokens(alone[:1])[0].startswith(_SPACE):
        return alone
    line = len(tokenizer("\n", add_special_tokens=False)["input_ids"])
    return list(tokenizer(f"\n{answer}", add_special_tokens=False)["input_ids"])[line:]


def _load(base: Path, adapter: Path | None, tokenizer_folder: Path | None, threads: int) -> Model:
    torch.set_num_threads(threads)
    disable_progress_bar()
    network = load(base, adapter, torch.float32, nf4=adapter is not None and learnt_on_nf4(adapter))
    own = adapter if adapter and (adapter / "tokenizer.json").is_file() else base
    with_tokenizer = tokenizer_folder or own
    tokenizer = AutoTokenizer.from_pretrained(with_tokenizer, local_files_only=True)
    vocabulary = int(network.config.vocab_size)
    constraints = Constraints(guided_tokenizer(tokenizer, vocabulary), vocabulary)
    ends = network.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return Model(network.eval(), tokenizer, constraints, frozenset({*listed, tokenizer.eos_token_id} - {None}))


def guided_tokenizer(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> LLTokenizer:
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
