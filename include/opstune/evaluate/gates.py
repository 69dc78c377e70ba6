"""``config/gates.yaml``: what a challenger must prove before it may replace the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from opstune.evaluate.metrics import ALL, VALID, Frozen
from opstune.evaluate.red_team.model import METRICS
from opstune.settings import read_model
from opstune.skills import SKILLS

Direction = Literal["above", "below"]
Reference = Literal["absolute", "over_base", "over_champion"]
Kind = Literal["bound", "guard", "point", "alarm"]
Unit = Literal["share", "difference", "milliseconds", "number"]

#: The pseudo skill of the red team's probes.
RED_TEAM = "red_team"
#: The 95th percentile of single requests' latency.
LATENCY_P95 = "latency_p95_ms"
PERPLEXITY, BLEU, ROUGE_L, SIZE_REDUCTION = "perplexity", "bleu", "rouge_l", "size_reduction"
#: What is no share of cases, so that there is nothing to pair case by case.
_FIGURES: dict[str, Unit] = {
    LATENCY_P95: "milliseconds",
    PERPLEXITY: "number",
    BLEU: "number",
    ROUGE_L: "number",
    SIZE_REDUCTION: "share",
}
_WITHOUT_BOUND = (BLEU, ROUGE_L, SIZE_REDUCTION)


class Gate(Frozen):
    """One line. Every key is explained at the head of ``config/gates.yaml``."""

    skill: str
    metric: str
    direction: Direction
    threshold: float
    kind: Kind = "bound"
    reference: Reference = "absolute"
    minimum: int = Field(1, ge=1)

    @property
    def unit(self) -> Unit:
        return "difference" if self.reference != "absolute" else _FIGURES.get(self.metric, "share")

    @field_validator("skill")
    @classmethod
    def _is_known(cls, skill: str) -> str:
        if skill not in (ALL, RED_TEAM, *SKILLS):
            raise ValueError(f"no such skill; known: {ALL}, {RED_TEAM}, {', '.join(SKILLS)}")
        return skill

    @model_validator(mode="after")
    def _can_be_judged(self) -> Gate:
        metric, over_all = self.metric, ("correct", VALID, *_FIGURES)
        if self.skill == ALL and metric not in over_all:
            raise ValueError(f"over all skills there is no metric {metric}; known: {', '.join(over_all)}")
        if self.skill == RED_TEAM and metric not in METRICS:
            raise ValueError(f"the red team has no metric {metric}; known: {', '.join(METRICS)}")
        of_skill = (*SKILLS[self.skill].metrics, VALID, LATENCY_P95) if self.skill in SKILLS else ()
        if of_skill and metric not in (*of_skill, *_FIGURES):
            raise ValueError(f"{self.skill} has no metric {metric}; known: {', '.join(of_skill)}")
        if metric in _FIGURES and metric != LATENCY_P95 and self.skill != ALL:
            raise ValueError(f"{metric} is measured over all skills together: write skill: {ALL}")
        if metric in _FIGURES and self.reference != "absolute":
            raise ValueError(f"{metric} is no share of cases, so its reference can only be absolute")
        if metric in _WITHOUT_BOUND and self.kind == "bound":
            raise ValueError(f"{metric} has no bound: write kind: point to decide on the value, or alarm")
        if metric == LATENCY_P95 and self.direction != "below":
            raise ValueError(f"{metric} has an upper bound only: write direction: below")
        if self.kind == "guard" and self.reference == "absolute":
            raise ValueError("a guard needs another model to be held against: reference over_base or over_champion")
        return self


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
