"""What a model has answered so far, on disk line by line: a killed evaluation goes on from there."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pydantic import ValidationError

from opstune.evaluate.metrics import Frozen

log = logging.getLogger(__name__)


class Said(Frozen):
    """One answer as the engine gave it; what it is worth is worked out anew each time."""

    text: str
    tokens: int
    seconds: float | None
    nll: float | None
    nll_tokens: int


class Step(Frozen):
    """The answers to the cases from ``first`` on, asked together. ``memory_mb`` is the process's most so far."""

    free: bool
    first: int
    seconds: float
    memory_mb: float | None
    said: list[Said]


class Kept:
    """One model's steps in a file that is only ever added to. A file of another ``key`` is begun anew."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._steps: dict[tuple[bool, int], Step] = {}
        heading = json.dumps({"key": key}).encode() + b"\n"
        content = path.read_bytes() if path.is_file() else b""
        sound = self._read(content[len(heading) :]) if content.startswith(heading) else b""
        path.parent.mkdir(parents=True, exist_ok=True)
        if content != heading + sound:
            path.write_bytes(heading + sound)

    def __len__(self) -> int:
        """How many answers there are."""
        return sum(len(step.said) for step in self._steps.values())

    def find(self, free: bool, first: int, cases: int) -> Step | None:
        """The step of these cases, or none."""
        step = self._steps.get((free, first))
        return step if step and len(step.said) == cases else None

    def add(self, step: Step) -> None:
        self._steps[step.free, step.first] = step
        with self._path.open("a") as file:
            file.write(step.model_dump_json() + "\n")

    def _read(self, lines: bytes) -> bytes:
        """Take in whole lines; returns them, without what a kill left half-written and all after it."""
        read = 0
        while (end := lines.find(b"\n", read)) >= 0:
            try:
                step = Step.model_validate_json(lines[read:end])
            except ValidationError:
                break
            self._steps[step.free, step.first] = step
            read = end + 1
        if read < len(lines):
            log.warning("%s ends in a half-written line; the cases of it are asked again", self._path.name)
        return lines[:read]
