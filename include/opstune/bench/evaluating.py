"""Rows about evaluation: each engine beside a naive loop over the same model and cases.

The model is trained here, on a made-up history, as the demo's is. The naive loop is what anybody writes first:
transformers' ``generate``, one case after the other, with the same schema as a logits processor. Both must say the
same, else there is nothing to compare.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opstune import dataset as datasets
from opstune import pipeline
from opstune import settings as configuration
from opstune.artifacts import Ref
from opstune.bench.corpus import history
from opstune.bench.rows import Measure, Measured, row
from opstune.cli.output import console
from opstune.errors import DataError
from opstune.settings import EvaluateSettings
from opstune.tables import read_examples

if TYPE_CHECKING:
    from opstune.engines.base import Case

#: Days of history: some 900 training examples of the demo's three skills.
_DAYS = 12
#: Cases of the test set; the naive loop takes long.
_CASES = 96


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


@dataclass(frozen=True)
class Subject:
    """A base, what was trained from it, and the cases of its test set with the expected answers."""

    folder: Path
    base: Path
    adapter: Ref
    cases: list[Case]
    expected: list[str]
    asked: EvaluateSettings


@cache
def _folders() -> list[tempfile.TemporaryDirectory[str]]:
    """A folder that is removed when the process ends."""
    return [tempfile.TemporaryDirectory(prefix="opstune-bench-evaluating-")]


@cache
def _subject() -> Subject:
    from opstune import train
    from opstune.engines.base import Case
    from opstune.settings import TrainSettings
    from opstune.skills.base import target

    folder, profile = Path(_folders()[0].name), train.load_profile("tiny")
    found = history(folder, _DAYS)
    asked = found.settings.dataset.model_copy(update={"skills": configuration.load().dataset.skills})
    keys = pipeline.keyring(found.settings)
    dataset = datasets.build(folder / "dataset", found.examples, folder / "splits.parquet", asked, "full", keyring=keys)
    adapter = train.Trainer(folder / "train", dataset, profile, TrainSettings()).run()
    examples = read_examples(dataset.path / "test.parquet")[:_CASES]
    return Subject(
        folder,
        train.base_folder(profile),
        adapter,
        [Case(example.skill, example.context) for example in examples],
        [target(example.answer) for example in examples],
        found.settings.evaluate,
    )


@cache
def _naive(trained: bool) -> Spoken:
    """transformers' generate, a case at a time."""
    import torch
    from transformers import AutoTokenizer, LogitsProcessorList

    from opstune.engines.decoding import Constraints
    from opstune.engines.hugging_face import guided_tokenizer
    from opstune.engines.prompts import chat
    from opstune.engines.weights import load
    from opstune.skills import get

    subject = _subject()
    torch.set_num_threads(subject.asked.threads)
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
    """Ask all cases at once or one after the other; the first two once before, to warm up."""
    subject = _subject()
    ask(subject.cases[:2], subject.expected[:2])
    size = len(subject.cases) if together else 1
    answers: list[Any] = []
    seconds: list[float] = []
    for first in range(0, len(subject.cases), size):
        began = time.perf_counter()
        answers += ask(subject.cases[first : first + size], subject.expected[first : first + size])
        seconds.append(time.perf_counter() - began)
    return Spoken([answer.text for answer in answers], sum(seconds), [] if together else seconds)


def _hugging_face(trained: bool, together: bool) -> Spoken:
    from opstune.engines.hugging_face import HuggingFaceEngine

    subject = _subject()
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
def _llama_cpp() -> Spoken:
    from opstune import export
    from opstune.engines.llama_cpp import LlamaCppEngine
    from opstune.skills.base import SYSTEM

    subject, found = _subject(), configuration.load()
    gguf = export.convert(
        subject.folder / "convert", subject.adapter, subject.base, found.export, found.tools_dir, SYSTEM
    )
    engine = LlamaCppEngine(
        gguf.path / "model.gguf",
        context_tokens=found.serve.context_tokens,
        max_new_tokens=found.serve.max_new_tokens,
        threads=found.serve.threads,
    )
    return _asked(lambda cases, _: engine.answer(cases, constrained=True), together=False)


def _told(name: str, ours: Spoken, naive: Spoken) -> None:
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    right = sum(text == wanted for text, wanted in zip(ours.texts, _subject().expected, strict=True))
    same = sum(a == b for a, b in zip(ours.texts, naive.texts, strict=True))
    console.print(
        f"{name}: {ours.speed:.1f} beside {naive.speed:.1f} cases/s, {same} of {len(ours.texts)} answers the same, "
        f"{right} as expected (load {load})"
    )


def _beside_naive(name: str, trained: bool) -> Measure:
    """Cases a second of the batched engine; the baseline is the naive loop. They must give the same answers."""

    def measure() -> Measured:
        naive, ours = _naive(trained), _hugging_face(trained, together=True)
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
    return Measured(_llama_cpp().speed, "cases/s", _naive(trained=True).speed, _CASES)
