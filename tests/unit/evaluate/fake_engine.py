"""Examples of two skills, a dataset folder of them, and an engine that answers as well or as badly as a test wants."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.engines.base import Answer, Case, Likelihood, Traits
from opstune.examples import Example
from opstune.skills.base import target
from opstune.tables import write_examples

FUNCTIONS = {"drain_node": ["node"], "restart_pod": ["namespace", "pod"], "none": []}


def example(skill: str, number: int) -> Example:
    if skill == "remediation":
        labels = {"node": f"n{number}", "namespace": "shop", "pod": f"cart-{number}"}
        function = list(FUNCTIONS)[number % 3]
        context: dict[str, Any] = {"alert": f"Alert{number % 4}", "summary": f"case {number}", "labels": labels}
        answer = {"function": function, "parameters": {name: labels[name] for name in FUNCTIONS[function]}}
    else:
        context = {"title": f"incident {number}"}
        answer = {"severity": f"SEV-{number % 4}", "root_cause": "" if number % 2 else f"disk {number} was full"}
    return Example(
        id=f"{skill}-{number:04}",
        skill=skill,
        source="test",
        source_id=str(number),
        group_id=str(number),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        context=context,
        answer=answer,
    )


@dataclass
class FakeEngine:
    """Answers a share of cases rightly, the others with another case's answer.

    ``broken`` ends it once it has answered ``after`` cases.
    """

    name: str
    examples: Sequence[Example]
    right: float | Mapping[str, float] = 1.0
    seconds: float | None = None
    broken: BaseException | None = None
    after: int = 0
    drop: int = 0
    likelihood: Likelihood | None = field(default_factory=lambda: Likelihood(1.0, 10))
    asked: list[int] = field(default_factory=list)
    traits: Traits = field(default_factory=lambda: Traits(100, {"max_new_tokens": 160}, disk_bytes=1000))

    def answer(
        self,
        cases: Sequence[Case],
        *,
        constrained: bool,
        expected: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        if self.broken and sum(self.asked) >= self.after:
            raise self.broken
        self.asked.append(len(cases))
        known = {json.dumps(dict(found.context)): found for found in self.examples}
        answers = []
        for done, case in enumerate(cases, start=1):
            asked = known[json.dumps(dict(case.context))]
            rate = self.right if isinstance(self.right, float) else self.right[case.skill]
            if random.Random(f"{self.name} {asked.id}").random() < rate:
                said: dict[str, Any] | None = asked.answer
            else:
                others = [e.answer for e in self.examples if e.skill == case.skill and e.answer != asked.answer]
                said = random.Random(asked.id).choice(others)
            likely = self.likelihood if expected else None
            answers.append(Answer(target(said), said, 10, self.seconds, likely))
            if on_progress:
                on_progress(done, len(cases))
        return answers[: len(answers) - self.drop]


def write_dataset(folder: Path, examples: Sequence[Example]) -> Ref:
    def make(out: Path) -> dict[str, float]:
        write_examples(out / "test.parquet", examples)
        return {"test": len(examples)}

    return artifacts.build(folder, "dataset", {}, {"ids": [example.id for example in examples]}, make)
