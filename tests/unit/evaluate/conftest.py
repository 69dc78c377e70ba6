"""A small frozen test set on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_engine import example, write_dataset

from opstune.artifacts import Ref
from opstune.examples import Example
from opstune.settings import EvaluateSettings


@pytest.fixture
def examples() -> list[Example]:
    return [example("remediation", n) for n in range(300)] + [example("triage", n) for n in range(100)]


@pytest.fixture
def dataset(tmp_path: Path, examples: list[Example]) -> Ref:
    return write_dataset(tmp_path / "dataset", examples)


@pytest.fixture
def settings() -> EvaluateSettings:
    return EvaluateSettings(free_decoding_sample=20)
