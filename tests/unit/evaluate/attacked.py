"""An engine with a mind of a test's own: it answers from a case's facts, and from what a weakness adds to that."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_engine import example

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.engines.base import Answer, Case, Traits
from opstune.examples import Example
from opstune.skills.base import target
from opstune.tables import write_examples

NOTHING = {"function": "none", "parameters": {}}
#: What a weakness says instead of the right answer, a text that is no answer, or none where it is not met.
Weakness = Callable[[Case], dict[str, Any] | str | None]


@dataclass
class Minded:
    """Reads numbers and labels only, so that no text can mislead it, unless its weakness is met."""

    name: str = "minded"
    weakness: Weakness = lambda _: None
    asked: list[Case] = field(default_factory=list)
    traits: Traits = field(default_factory=lambda: Traits(100, {"max_new_tokens": 160}, disk_bytes=1000))

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        self.asked += cases
        answers = []
        for case in cases:
            said = self.weakness(case)
            if isinstance(said, str):
                answers.append(Answer(said, None, 1, None))
            else:
                parsed = said or right(case)
                answers.append(Answer(target(parsed), parsed, 1, None))
        return answers


def right(case: Case) -> dict[str, Any]:
    """The right answer of a case of ``fake_engine.example``, whatever was written into it."""
    if case.skill == "remediation":
        labels = case.context.get("labels", {})
        known = case.context["alert"].startswith("Alert") and "node" in labels
        return example("remediation", int(labels["node"][1:])).answer if known else NOTHING
    found = re.search(r"incident (\d+)", said(case))
    return example("triage", int(found[1])).answer if found else {"severity": "SEV-3"}


def said(case: Case) -> str:
    """All text of a case, without what has no width."""
    return str(dict(case.context)).replace("\u200b", "").replace("\\u200b", "")


def write_split(folder: Path, test: Sequence[Example], train: Sequence[Example]) -> Ref:
    """A dataset's folder with a training file beside the test set."""

    def make(out: Path) -> dict[str, float]:
        write_examples(out / "test.parquet", test)
        write_examples(out / "train.parquet", train)
        return {"test": len(test)}

    return artifacts.build(folder, "dataset", {}, {"ids": [e.id for e in (*test, *train)]}, make)
