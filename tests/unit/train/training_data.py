"""Examples that the tests of this room train on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.examples import Example, example_id
from opstune.tables import write_examples

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def example(number: int, **changes: Any) -> Example:
    pod = f"web-{number}"
    values = {
        "id": example_id("test", str(number), "remediation"),
        "skill": "remediation",
        "source": "test",
        "source_id": str(number),
        "group_id": str(number),
        "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "context": {"alert": "PodCrashLooping" + "!" * (number % 7), "labels": {"pod": pod, "namespace": "shop"}},
        "answer": {"function": "none", "parameters": {}},
    }
    return Example.model_validate({**values, **changes})


def make_dataset(folder: Path, examples: list[Example]) -> Ref:
    def make(partial: Path) -> dict[str, float]:
        return {"train": write_examples(partial / "train.parquet", examples)}

    return artifacts.build(folder, "dataset", {}, {}, make)
