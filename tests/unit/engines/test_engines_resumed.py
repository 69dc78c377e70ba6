"""A killed evaluation of a real model in batches ends with the same answers as one that was not killed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from opstune.engines.base import Engine
from opstune.engines.hugging_face import HuggingFaceEngine
from opstune.engines.llama_cpp import LlamaCppEngine
from opstune.evaluate.predict import predict
from opstune.examples import Example
from opstune.settings import EvaluateSettings

SETTINGS = EvaluateSettings(free_decoding_sample=4)


def example(number: int) -> Example:
    labels = {"namespace": f"team-{number}", "pod": f"cart-{number}" * (1 + number % 4)}
    return Example(
        id=f"case-{number}",
        skill="remediation",
        source="test",
        source_id=str(number),
        group_id=str(number),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        context={"alert": f"Alert{number}", "labels": labels},
        answer={"function": "none", "parameters": {}},
    )


@pytest.mark.parametrize("kind", ["hugging_face", "llama_cpp"])
def test_killed_and_gone_on_is_as_if_never_killed(base: Path, gguf: Path, tmp_path: Path, kind: str) -> None:
    def engine() -> Engine:
        if kind == "hugging_face":
            return HuggingFaceEngine(base, batch_size=4, max_new_tokens=24, threads=1)
        return LlamaCppEngine(gguf, context_tokens=768, max_new_tokens=24, threads=1)

    def killed(role: str, done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    examples = [example(number) for number in range(14)]
    with pytest.raises(KeyboardInterrupt):
        predict("base", engine(), examples, "dataset", SETTINGS, tmp_path / "kept", killed)
    told: list[int] = []
    resumed = predict(
        "base", engine(), examples, "dataset", SETTINGS, tmp_path / "kept", lambda role, done, total: told.append(done)
    )
    whole = predict("base", engine(), examples, "dataset", SETTINGS, tmp_path / "other")
    measured = {"seconds", "free"}
    assert [p.model_dump(exclude=measured) for p in resumed.predictions] == [
        p.model_dump(exclude=measured) for p in whole.predictions
    ]
    assert [p.free.text if p.free else None for p in resumed.predictions] == [
        p.free.text if p.free else None for p in whole.predictions
    ]
    assert told[0] in (1, 4) and told[-1] == 18
    assert all((p.seconds is None) == (kind == "hugging_face") for p in resumed.predictions)
    assert all(p.nll is not None and p.nll_tokens > 5 for p in resumed.predictions)
