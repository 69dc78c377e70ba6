"""``config/gates.yaml``: what a challenger must prove before it may replace the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from opstune.evaluate.metrics import ALL, Frozen
from opstune.settings import read_model
from opstune.skills import SKILLS

Direction = Literal["above", "below"]
Reference = Literal["absolute", "over_base", "over_champion"]
Kind = Literal["bound", "alarm"]

#: The 95th percentile of single requests' latency, of skill ``all``.
LATENCY_P95 = "latency_p95_ms"


class Gate(Frozen):
    """One line. Every key is explained at the head of ``config/gates.yaml``."""

    skill: str
    metric: str
    direction: Direction
    threshold: float
    kind: Kind = "bound"
    reference: Reference = "absolute"
    minimum: int = Field(1, ge=1)

    @field_validator("skill")
    @classmethod
    def _is_taught(cls, skill: str) -> str:
        if skill not in (ALL, *SKILLS):
            raise ValueError(f"no such skill; known: {ALL}, {', '.join(SKILLS)}")
        return skill


class Gates(Frozen):
    """All lines. ``reach`` is how many times the cases at hand may still be asked for before a line fails instead."""

    reach: float = Field(10.0, ge=1)
    lines: list[Gate] = Field(min_length=1)


def read_gates(path: Path) -> Gates:
    """The gates of a file.

    Raises:
        ConfigError: lists every wrong key and value at once.
    """
    return read_model(path, Gates)
