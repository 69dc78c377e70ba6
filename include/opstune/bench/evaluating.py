"""Rows about evaluation: each engine beside a naive loop over the same model and cases.

The model is a demo's, or one that is trained here where no demo has run. The naive loop is what anybody writes first:
transformers' ``generate``, one case after the other, with the same schema as a logits processor. Both must say the
same, else there is nothing to compare.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import SecretStr

from opstune import settings as configuration
from opstune.bench.rows import Measure, Measured, row
from opstune.bench.subject import measured_on
from opstune.cli.output import console
from opstune.errors import DataError
from opstune.settings import Connection

if TYPE_CHECKING:
    from opstune.engines.base import Case, Engine


@dataclass(frozen=True)
class Spoken:
    """What a way of asking said, the seconds of all of it, and those of each request where it was alone."""

    texts: list[str]
    seconds: float
    single: list[float]

    @property
    def speed(self) -> float:
        """Cases a second."""
        return len(self.texts) / self.seconds

    @property
    def p95_ms(self) -> float:
        return float(np.percentile(self.single, 95)) * 1000


@cache
def _naive(trained: bool) -> Spoken:
    """transformers' generate, a case at a time. On one thread: two wait for one another at so small products (114
    beside 90 ms a case on idle cores, 350 beside other work)."""
    import torch
    from transformers import AutoTokenizer, LogitsProcessorList

    from opstune.engines.decoding import Constraints
    from opstune.engines.hugging_face import guided_tokenizer
    from opstune.engines.prompts import chat
    from opstune.engines.weights import load
    from opstune.skills import get

    subject = measured_on()
    torch.set_num_threads(1)
    network = load(subject.base, subject.adapter.path if trained else None, torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(subject.base)
    vocabulary = network.config.vocab_size
    constraints = Constraints(guided_tokenizer(tokenizer, vocabulary), vocabulary)
    texts, single = [], []
    for case in [subject.cases[0], *subject.cases]:  # the first one pays for buffers
        began = time.perf_counter()
        prompt = tokenizer.apply_chat_template(chat(case), add_generation_prompt=True, return_tensors="pt")
        constraint = constraints.start(case.skill, get(case.skill).schema(case.context))
        length = prompt["input_ids"].shape[1]

        def under_schema(ids: torch.Tensor, logits: torch.Tensor, rows: Any = constraint, at: int = length) -> Any:
            if ids.shape[1] > at:
                rows.accept(int(ids[0, -1]))
            return logits.masked_fill(~torch.from_numpy(constraints.allowed([rows])), -torch.inf)

        said = network.generate(
            **prompt,
            do_sample=False,
            max_new_tokens=subject.asked.max_new_tokens,
            logits_processor=LogitsProcessorList([under_schema]),
        )[0, length:]
        texts.append(tokenizer.decode(said, skip_special_tokens=True))
        single.append(time.perf_counter() - began)
    return Spoken(texts[1:], sum(single[1:]), single[1:])


def _asked(ask: Callable[[Sequence[Case], Sequence[str]], Sequence[Any]], together: bool) -> Spoken:
    """Ask all cases at once or one after the other; as many once before, since the first ones pay for buffers."""
    subject = measured_on()
    size = len(subject.cases) if together else 1
    ask(subject.cases[:size], subject.expected[:size])
    answers: list[Any] = []
    seconds: list[float] = []
    for first in range(0, len(subject.cases), size):
        began = time.perf_counter()
        answers += ask(subject.cases[first : first + size], subject.expected[first : first + size])
        seconds.append(time.perf_counter() - began)
    return Spoken([answer.text for answer in answers], sum(seconds), [] if together else seconds)


def _hugging_face(trained: bool, together: bool) -> Spoken:
    from opstune.engines.hugging_face import HuggingFaceEngine

    subject = measured_on()
    asked = subject.asked
    engine = HuggingFaceEngine(
        subject.base,
        subject.adapter.path if trained else None,
        batch_size=asked.batch_size,
        max_new_tokens=asked.max_new_tokens,
        threads=asked.threads,
    )

    def ask(cases: Sequence[Case], expected: Sequence[str]) -> Sequence[Any]:
        return engine.answer(cases, constrained=True, expected=expected if together else None)

    return _asked(ask, together)


@cache
def _shipped() -> Engine:
    """The quantised GGUF in llama.cpp, as it is served."""
    from opstune import export
    from opstune.engines.llama_cpp import LlamaCppEngine
    from opstune.skills.base import SYSTEM

    subject, found = measured_on(), configuration.load()
    gguf = export.convert(
        subject.folder / "convert", subject.adapter, subject.base, found.export, found.tools_dir, SYSTEM
    )
    return LlamaCppEngine(
        gguf.path / "model.gguf",
        context_tokens=found.serve.context_tokens,
        max_new_tokens=found.serve.max_new_tokens,
        threads=found.serve.threads,
    )


@cache
def _llama_cpp() -> Spoken:
    return _asked(lambda cases, _: _shipped().answer(cases, constrained=True), together=False)


@cache
def _endpoint(together: bool) -> Spoken:
    """The same GGUF behind a server: all cases as evaluation asks them, or one after the other."""
    from opstune.bench.answering import serving
    from opstune.engines.endpoint import EndpointEngine

    subject = measured_on()
    with serving(_shipped(), subject.cases) as root:
        connection = Connection(url=SecretStr(root))
        asked = subject.asked.endpoint
        engine = EndpointEngine("bench", connection, asked, max_new_tokens=subject.asked.max_new_tokens)
        return _asked(lambda cases, _: engine.answer(cases, constrained=True), together)


def _told(name: str, ours: Spoken, naive: Spoken) -> None:
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    right = sum(text == wanted for text, wanted in zip(ours.texts, measured_on().expected, strict=True))
    same = sum(a == b for a, b in zip(ours.texts, naive.texts, strict=True))
    console.print(
        f"{name}: {ours.speed:.1f} beside {naive.speed:.1f} cases/s, {same} of {len(ours.texts)} answers the same, "
        f"{right} as expected (load {load})"
    )


def _beside_naive(name: str, trained: bool) -> Measure:
    """Cases a second of the batched engine; the baseline is the naive loop. They must give the same answers.

    Ten times on two cores were hoped for, and are not reached: 4.4 times with a demo's model and 5.4 with its base, on
    idle cores. One core (AVX-512, 32 bits) takes 22 ms a case beside the loop's 89: 14 read prompt and draft, 4 go on
    where the model says something else, 2 compile the case's schema. Of the 14, 10 are matrix products at 104 of the
    110 GFLOP/s that MKL has here, and the loop must do those of the prompt as well: nothing else left, one core would
    be 9 times as fast. The second core helps by little to much, from run to run (20 to 13 ms a case).
    """

    def measure() -> Measured:
        naive, ours = _naive(trained=trained), _hugging_face(trained, together=True)
        _told(name, ours, naive)
        if ours.texts != naive.texts:
            raise DataError(
                "the batched engine and generate do not say the same", name, "See which in the table above."
            )
        return Measured(ours.speed, "cases/s", naive.speed, len(ours.texts))

    return measure


row("evaluate_batched_vs_naive")(_beside_naive("evaluate_batched_vs_naive", trained=True))
row("evaluate_batched_vs_naive_untrained")(_beside_naive("evaluate_batched_vs_naive_untrained", trained=False))


@row("evaluate_p95_ms_hugging_face")
def evaluate_p95_ms_hugging_face() -> Measured:
    """95th percentile of single requests to the Hugging Face engine; the baseline is the naive loop's."""
    ours = _hugging_face(trained=True, together=False)
    _told("evaluate_p95_ms_hugging_face", ours, _naive(trained=True))
    return Measured(ours.p95_ms, "ms", _naive(trained=True).p95_ms, len(ours.single))


@row("evaluate_p95_ms_llama_cpp")
def evaluate_p95_ms_llama_cpp() -> Measured:
    """95th percentile of single requests to the quantised GGUF in llama.cpp; the baseline is the naive loop's."""
    ours = _llama_cpp()
    _told("evaluate_p95_ms_llama_cpp", ours, _naive(trained=True))
    return Measured(ours.p95_ms, "ms", _naive(trained=True).p95_ms, len(ours.single))


@row("evaluate_llama_cpp_vs_naive")
def evaluate_llama_cpp_vs_naive() -> Measured:
    """Cases a second of the quantised GGUF in llama.cpp, one at a time; the baseline is the naive loop."""
    return Measured(_llama_cpp().speed, "cases/s", _naive(trained=True).speed, len(_llama_cpp().texts))


@row("evaluate_endpoint_vs_naive")
def evaluate_endpoint_vs_naive() -> Measured:
    """Cases a second of the same GGUF behind a server that answers one at a time; the baseline is the naive loop."""
    ours = _endpoint(together=True)
    _told("evaluate_endpoint_vs_naive", ours, _naive(trained=True))
    return Measured(ours.speed, "cases/s", _naive(trained=True).speed, len(ours.texts))


@row("evaluate_p95_ms_endpoint")
def evaluate_p95_ms_endpoint() -> Measured:
    """95th percentile of single requests to that server; the baseline is the naive loop's."""
    ours = _endpoint(together=False)
    _told("evaluate_p95_ms_endpoint", ours, _naive(trained=True))
    return Measured(ours.p95_ms, "ms", _naive(trained=True).p95_ms, len(ours.single))
