"""Follows LLaMA-Factory: its log and its checkpoints, as they grow, become our events and our sealed checkpoints."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from opstune.errors import Diverged
from opstune.train import checkpoints
from opstune.train.callbacks import Lookout
from opstune.train.progress import Progress, Tell
from opstune.train.spec import Spec

_LOOK_SECONDS = 0.3


class Follower:
    """One running LLaMA-Factory. ``tokens`` are those of one epoch; ``from_step`` is the step that it resumed from."""

    def __init__(
        self, spec: Spec, output: Path, tokens: int, tell: Tell, process: subprocess.Popen[bytes], from_step: int
    ) -> None:
        self._spec, self._output, self._tokens, self._tell = spec, output, tokens, tell
        self._process, self._from_step = process, from_step
        self._lookout = Lookout()
        self._read = 0
        self._told = time.monotonic()
        self._first: tuple[float, dict[str, Any]] | None = None

    def follow(self) -> None:
        """Tell what it does until it ends.

        Raises:
            Diverged: the loss is no number, or has run away.
            SystemExit: it failed; with its exit status, as a shell has it.
        """
        while (code := self._process.poll()) is None:
            self.look()
            time.sleep(_LOOK_SECONDS)
        self.look()
        if code != 0:
            raise SystemExit(code if code > 0 else 128 - code)

    def look(self) -> None:
        """Tell what is new.

        Raises:
            Diverged: the loss is no number, or has run away.
        """
        for entry in self._entries():
            if "loss" in entry:
                self._watch(entry)
                self._progress(entry)
        self._seal()

    def _watch(self, entry: dict[str, Any]) -> None:
        try:
            self._lookout.on_log(None, SimpleNamespace(global_step=entry["current_steps"]), None, entry)
        except Diverged as error:
            error.sound = 0  # its checkpoints hold the rate of their schedule: half the rate is a new beginning
            raise

    def _entries(self) -> Iterator[dict[str, Any]]:
        """The whole lines of its log since the last look."""
        file = self._output / "trainer_log.jsonl"
        if not file.is_file():
            return
        with file.open("rb") as lines:
            lines.seek(self._read)
            new = lines.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)

    def _progress(self, entry: dict[str, Any]) -> None:
        now, step, of = time.monotonic(), entry["current_steps"], entry["total_steps"]
        if self._first is None:
            self._first = now, entry
            self._tell("begins", step=self._from_step, of=of)
        since, first = self._first
        if step == first["current_steps"] or not (step == of or now - self._told >= self._spec.progress_seconds):
            return
        self._told, spent = now, max(now - since, 1e-9)
        progress = Progress(
            step=step,
            of=of,
            loss=float(entry["loss"]),
            learning_rate=float(entry["lr"]),
            tokens_per_second=(entry["epoch"] - first["epoch"]) * self._tokens / spent,
            memory_mb=sum(_rss(one) for one in family(self._process)) / 2**20,
            seconds_left=spent / (step - first["current_steps"]) * (of - step),
        )
        self._tell("progress", **vars(progress))

    def _seal(self) -> None:
        """Put every checkpoint that is written at its place; its state is the last of its files to be written."""
        for made in sorted(self._output.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
            try:
                step = int(json.loads((made / "trainer_state.json").read_text())["global_step"])
            except (OSError, ValueError, KeyError):
                continue
            checkpoints.seal(made, self._spec.checkpoints, step)
            checkpoints.keep_last(self._spec.checkpoints, self._spec.keep_checkpoints)
            self._tell("saved", step=step)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and all that it started, those that are gone left out."""
    try:
        first = psutil.Process(process.pid)
        return [*first.children(recursive=True), first]
    except psutil.NoSuchProcess:
        return []


def kill(process: psutil.Process) -> None:
    """End a process, if it is not gone already."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
