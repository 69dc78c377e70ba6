"""The GGUF that ships, in llama.cpp, one request at a time: what production's latency and answers are measured with."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from llama_cpp import Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from opstune.engines.base import Answer, Case, Likelihood, Traits, parse
from opstune.engines.decoding import Constraint, Constraints
from opstune.engines.prompts import chat, identity
from opstune.errors import EvaluationError, OpstuneError
from opstune.skills import get
from opstune.skills.base import SYSTEM

log = logging.getLogger(__name__)

_OPENING = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "task: ready?"}]


class LlamaCppEngine:
    """A GGUF with its own tokenizer and chat template. It is loaded at the first question."""

    def __init__(self, gguf: Path, *, context_tokens: int, max_new_tokens: int, threads: int) -> None:
        """
        Raises:
            EvaluationError: the file cannot be read.
        """
        self._gguf = gguf
        self._context_tokens, self._max_new_tokens, self._threads = context_tokens, max_new_tokens, threads
        self.name = f"llama-cpp:{gguf.name}@{identity([gguf])}"
        asked = {"context_tokens": context_tokens, "max_new_tokens": max_new_tokens}
        self.traits = Traits(1, asked, gguf.stat().st_size)
        self._loaded: _Model | None = None

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the cases, each with the seconds that it took alone.

        A case whose prompt leaves no room for an answer, or whose schema allows none, is answered with nothing.

        Raises:
            EvaluationError: the model cannot be loaded or stopped answering.
        """
        answers = []
        try:
            model = self._model()
            for done, case in enumerate(cases, start=1):
                right = expected[done - 1] if expected else None
                answers.append(self._one(model, case, right, constrained))
                if on_progress:
                    on_progress(done, len(cases))
        except OpstuneError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
            raise EvaluationError(f"the model stopped answering: {error}", self.name, "See the log above.") from error
        return answers

    def _model(self) -> _Model:
        if self._loaded is None:
            self._loaded = _Model(self._gguf, self._context_tokens, self._threads)
        return self._loaded

    def _one(self, model: _Model, case: Case, expected: str | None, constrained: bool) -> Answer:
        started = time.perf_counter()
        prompt = model.tokens(chat(case))
        constraint = model.constraints.start(case.skill, get(case.skill).schema(case.context)) if constrained else None
        too_long = len(prompt) + self._max_new_tokens > self._context_tokens
        if too_long:
            log.warning("a %s case of %d tokens does not fit; it counts as unanswered", case.skill, len(prompt))
        if too_long or (constrained and constraint is None):
            return Answer("", None, 0, time.perf_counter() - started)
        answer = model.generate(prompt, constraint, self._max_new_tokens)
        text = model.llama.detokenize(answer, special=True).decode(errors="replace")
        parsed, seconds = parse(case.skill, text), time.perf_counter() - started
        likelihood = model.likelihood(prompt, expected) if expected else None
        return Answer(text, parsed, len(answer), seconds, likelihood)


class _Model:
    def __init__(self, gguf: Path, context_tokens: int, threads: int) -> None:
        # n_threads_batch too: by default the prompt is read with every core of the machine, against all the others.
        self.llama = Llama(
            str(gguf),
            n_ctx=context_tokens,
            n_batch=context_tokens,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
        weakref.finalize(self, self.llama.close)  # else it is closed when half of the interpreter has gone, noisily
        template = self.llama.metadata.get("tokenizer.chat_template")
        if not template:
            todo = "Convert it again from a model that has one."
            raise EvaluationError("the GGUF holds no chat template", gguf.name, todo)
        self.end = self.llama.token_eos()
        spelled = self.llama.detokenize([self.end], special=True).decode()
        begin = self.llama.token_bos()
        begun = self.llama.detokenize([begin], special=True).decode() if begin >= 0 else ""
        self._template = Jinja2ChatFormatter(template, eos_token=spelled, bos_token=begun)
        vocab = self.llama._model.vocab
        self.constraints = Constraints(lltokenizer_from_vocab(vocab), self.llama.n_vocab())
        # Also, the first request pays for page faults and buffers; no user of a running server does.
        self._opening: list[int] = self.tokens(_OPENING)
        self.generate(self._opening, None, 1)

    def tokens(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The prompt's tokens, equal to Hugging Face's of the same chat."""
        prompt = self._template(messages=messages).prompt
        tokens: list[int] = self.llama.tokenize(prompt.encode(), add_bos=False, special=True)
        return tokens

    def generate(self, prompt: Sequence[int], constraint: Constraint | None, limit: int) -> list[int]:
        """Greedy tokens after a prompt, without the end token.

        No more than what every prompt begins with stays in the cache, so that an answer and its time do not depend on
        what was asked before.
        """
        answer = constraint.forced() if constraint else []
        fresh = self._unseen([*prompt, *answer], len(self._opening))
        while len(answer) < limit and not (constraint and constraint.finished):
            self.llama.eval(fresh)
            logits = self._logits()
            if constraint:
                logits = np.where(self.constraints.allowed([constraint])[0], logits, -np.inf)
            token = int(logits.argmax())
            if token == self.end:
                break
            fresh = constraint.take(token) if constraint else [token]
            answer += fresh
        return answer

    def likelihood(self, prompt: Sequence[int], expected: str) -> Likelihood | None:
        """Of an answer and its end after a prompt; none where they do not fit."""
        taught: list[int] = self.llama.tokenize(expected.encode(), add_bos=False, special=False)
        fresh = [*self._unseen([*prompt], len(prompt)), *taught]
        if self.llama.n_tokens + len(fresh) > self.llama.n_ctx():
            return None
        context, batch = self.llama._ctx, self.llama._batch
        context.kv_cache_seq_rm(-1, self.llama.n_tokens, -1)
        batch.set_batch(batch=fresh, n_past=self.llama.n_tokens, logits_all=True)
        context.decode(batch)
        told = [*taught, self.end]
        places = range(len(fresh) - len(told), len(fresh))
        logits = np.stack([self._logits(place) for place in places]).astype(np.float64)
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return Likelihood(float((total - logits[np.arange(len(told)), told]).sum()), len(told))

    def _unseen(self, tokens: list[int], most: int) -> list[int]:
        """Rewind the cache to where these tokens leave it, ``most`` at the latest; at least one is left to evaluate."""
        cached = self.llama.input_ids[: min(self.llama.n_tokens, most, len(tokens) - 1)]
        different = np.flatnonzero(cached != np.asarray(tokens[: len(cached)]))
        self.llama.n_tokens = int(different[0]) if len(different) else len(cached)
        return tokens[self.llama.n_tokens :]

    def _logits(self, place: int = -1) -> NDArray[np.float32]:
        logits = self.llama._ctx.get_logits_ith(place)
        return np.ctypeslib.as_array(logits, shape=(self.llama.n_vocab(),))
