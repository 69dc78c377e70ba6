"""Rows about training on this machine's processor: ours beside LLaMA-Factory, on the same base, tokens and settings.

Both train the tiny profile for one epoch on the same made-up history, one after the other, and both adapters are
measured by the same code. Tokens are real ones: padding is work, not progress. The order of the examples is drawn
by seed, and moves the loss of so short a training by more than the two differ, so figures are means over seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import yaml

from opstune import dataset as datasets
from opstune import pipeline, train
from opstune import settings as configuration
from opstune.artifacts import Ref, write_text
from opstune.bench import corpus, environments
from opstune.bench.rows import Measure, Measured, row
from opstune.cli.output import console
from opstune.settings import TrainSettings
from opstune.tables import read_examples
from opstune.train.backends import llamafactory
from opstune.train.backends.llamafactory_files import Files, arguments, write_data
from opstune.train.place import Ended, Hear
from opstune.train.spec import Spec

#: Days of history: some 900 training examples of the demo's three skills.
_DAYS = 12
_SEEDS = (7, 8, 9)
_LOOK_SECONDS = 0.1
#: LLaMA-Factory's two ways of making a step. Packed, one row of 1,024 tokens holds about as many examples as ours do.
_SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "neat packing": {"packing": True, "neat_packing": True, "per_device_train_batch_size": 1},
}


@dataclass(frozen=True)
class Trained:
    """One training: real tokens a second of its loop, its process's most memory, and the loss on validation rows."""

    speed: float
    peak_mb: float
    loss: float


class LlamaFactory:
    """The place of a training that LLaMA-Factory does: what is asked of it is ours, and then its own ``extra``."""

    def __init__(self, program: Path, extra: Mapping[str, Any]) -> None:
        self._program, self._extra = program, extra

    def run(self, command: Sequence[str], environment: Mapping[str, str], output: Path, hear: Hear) -> Ended:
        from opstune.train import machine, result
        from opstune.train.chats import tokenizer_of

        spec = Spec.model_validate_json(Path(command[-1]).read_text())
        files, tokenizer, means = Files(spec.work / "llamafactory"), tokenizer_of(spec), machine.means(spec)
        written = write_data(files.data, read_examples(spec.examples), tokenizer, spec.max_length)
        base = llamafactory.in_float32(spec.base, files.base)
        asked = {**arguments(spec, files, base, means, resume=None), "logging_steps": 10, **self._extra}
        write_text(files.yaml, yaml.safe_dump(asked))
        with output.open("a") as log, llamafactory.running(self._program, files.yaml, log) as process:
            if code := process.wait():
                return Ended(code)
        state = json.loads((files.output / "trainer_state.json").read_text())
        told = result.facts(
            spec,
            result.curve(state["log_history"]),
            steps=state["global_step"],
            tokens=written.tokens,
            training_seconds=json.loads((files.output / "train_results.json").read_text())["train_runtime"],
        )
        result.put(spec, told, lambda folder: llamafactory.bring_back(files.output, folder, tokenizer, spec))
        return Ended(0)

    def stop(self) -> None:
        """Nobody stops a measurement but by killing it, which ends what it started."""


@cache
def _dataset() -> Ref:
    """The demo's three skills of a made-up history, split as a first retrain splits them."""
    folder = Path(_folders()[0].name)
    found = corpus.history(folder, _DAYS)
    asked = found.settings.dataset.model_copy(update={"skills": configuration.load().dataset.skills})
    keyring = pipeline.keyring(found.settings)
    return datasets.build(folder / "dataset", found.examples, folder / "splits.parquet", asked, "full", keyring=keyring)


@cache
def _folders() -> list[tempfile.TemporaryDirectory[str]]:
    """A folder that is removed when the process ends."""
    return [tempfile.TemporaryDirectory(prefix="opstune-bench-training-")]


@cache
def _beside() -> tuple[Trained, Trained]:
    """Ours, and the faster of LLaMA-Factory's two.

    Raises:
        ServiceDown: LLaMA-Factory cannot be installed here.
    """
    named = os.environ.get(llamafactory.ENVIRONMENT)
    home = configuration.load().tools_dir / "llamafactory-venv"
    program = llamafactory.interpreter() if named else environments.llamafactory(home)
    ours: list[Trained] = []
    theirs: dict[str, list[Trained]] = {name: [] for name in _SETTINGS}
    for seed in _SEEDS:
        ours.append(_measured("opstune", None, seed))
        for name, extra in _SETTINGS.items():
            theirs[name].append(_measured(f"LLaMA-Factory, {name}", LlamaFactory(program, extra), seed))
    return _mean(ours), max(map(_mean, theirs.values()), key=lambda trained: trained.speed)


def _mean(trained: Sequence[Trained]) -> Trained:
    return Trained(*(statistics.mean(figures) for figures in zip(*map(astuple, trained), strict=True)))


def _measured(name: str, place: train.Place | None, seed: int) -> Trained:
    dataset, profile = _dataset(), train.load_profile("tiny")
    folder = Path(_folders()[0].name) / f"{name.replace(' ', '-')}-{seed}"
    with _peak_mb() as peak:
        trainer = train.Trainer(folder, dataset, profile, TrainSettings(seed=seed), place=place)
        ref = trainer.run()
    facts = json.loads((ref.path / "training.json").read_text())
    speed = facts["tokens"] / facts["training_seconds"]
    made = Trained(speed, peak(), _validation_loss(ref.path, dataset.path / "validation.parquet"))
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    console.print(
        f"training, {name}, seed {seed}: {made.speed:,.0f} tokens/s, {facts['steps']:.0f} steps, "
        f"{made.peak_mb:,.0f} MB, validation loss {made.loss:.4f} (load {load})"
    )
    return made


def _validation_loss(adapter: Path, rows: Path) -> float:
    """Mean loss over the answers' tokens of the validation rows, in nats."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from opstune.train.batches import collate
    from opstune.train.examples import IGNORED, tokenise

    profile = train.load_profile("tiny")
    base = AutoModelForCausalLM.from_pretrained(train.base_folder(profile), dtype=torch.float32)
    model, tokenizer = PeftModel.from_pretrained(base, adapter).eval(), AutoTokenizer.from_pretrained(adapter)
    found = sorted(tokenise(read_examples(rows), tokenizer, profile.max_length).rows, key=lambda one: len(one.ids))
    total, counted = 0.0, 0
    for start in range(0, len(found), 16):
        part = [{"input_ids": one.ids, "labels": one.labels} for one in found[start : start + 16]]
        batch = collate(part, pad=tokenizer.pad_token_id)
        following = batch["labels"][:, 1:].flatten()
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits[:, :-1].flatten(0, 1)
        total += float(torch.nn.functional.cross_entropy(logits, following, ignore_index=IGNORED, reduction="sum"))
        counted += int((following != IGNORED).sum())
    return total / counted


@contextmanager
def _peak_mb() -> Iterator[Callable[[], float]]:
    """The most memory that any one process that is started within the block has held, as the kernel counts it."""
    peaks: dict[int, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            for process in psutil.Process().children(recursive=True):
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    continue
                found = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM 0")
                peaks[process.pid] = max(peaks.get(process.pid, 0.0), int(found.split()[1]) / 1024)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(peaks.values())
    finally:
        over.set()
        thread.join()


def _row(figure: str, unit: str) -> Measure:
    def measure() -> Measured:
        ours, theirs = _beside()
        return Measured(getattr(ours, figure), unit, getattr(theirs, figure), int(_dataset().counts["train"]))

    return measure


row("train_tokens_vs_llamafactory")(_row("speed", "tokens/s"))
row("train_peak_rss_vs_llamafactory")(_row("peak_mb", "MB"))
row("train_loss_vs_llamafactory")(_row("loss", "nats"))
