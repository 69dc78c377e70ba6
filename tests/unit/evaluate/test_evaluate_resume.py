"""A killed evaluation goes on from the cases already answered, and ends as if it had not been killed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fake_engine import FakeEngine, example

from opstune.engines.base import Likelihood, Traits
from opstune.errors import EvaluationError, ServiceDown, Throttled
from opstune.evaluate.evaluate import measure
from opstune.evaluate.predict import Predicted, predict
from opstune.examples import Example
from opstune.settings import EvaluateSettings
from opstune.skills.triage import Triage

Told = list[tuple[str, int, int]]


def run(engine: FakeEngine, examples: list[Example], kept: Path, told: Told | None = None, free: int = 20) -> Predicted:
    settings = EvaluateSettings(free_decoding_sample=free)
    hear = (lambda *heard: told.append(heard)) if told is not None else None
    return predict("challenger", engine, examples, "dataset", settings, kept, hear)


def lost_after(examples: list[Example], cases: int, kept: Path, fault: Exception | None = None) -> FakeEngine:
    """An engine that went away half-way, and is back."""
    engine = FakeEngine("model", examples, right=0.9, seconds=0.05, broken=fault or ServiceDown("it went"), after=cases)
    with pytest.raises(type(engine.broken)):  # type: ignore[arg-type]
        run(engine, examples, kept)
    engine.broken, engine.asked = None, []
    return engine


@pytest.mark.parametrize(
    "fault", [ServiceDown("gone"), Throttled("slower"), EvaluationError("a bug"), KeyboardInterrupt()]
)
def test_only_what_was_not_answered_is_asked_again(
    tmp_path: Path, examples: list[Example], fault: BaseException
) -> None:
    engine = lost_after(examples, 200, tmp_path / "kept.jsonl", fault)  # type: ignore[arg-type]
    resumed = run(engine, examples, tmp_path / "kept.jsonl")
    assert engine.asked == [100, 100, 20]
    whole = run(FakeEngine("model", examples, right=0.9, seconds=0.05), examples, tmp_path / "other.jsonl")
    assert resumed.predictions == whole.predictions
    assert [p.id for p in resumed.predictions] == [e.id for e in examples]


def test_progress_goes_on_from_there(tmp_path: Path, examples: list[Example]) -> None:
    told: Told = []
    run(lost_after(examples, 200, tmp_path / "kept.jsonl"), examples, tmp_path / "kept.jsonl", told)
    assert told[0] == ("challenger", 100, 420)
    assert told[1] == ("challenger", 200, 420)
    assert told[-1] == ("challenger", 420, 420)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


@pytest.mark.parametrize("cut", [1, 3, 700])
def test_a_half_written_last_line_costs_that_line_only(tmp_path: Path, examples: list[Example], cut: int) -> None:
    kept = tmp_path / "kept.jsonl"
    engine = lost_after(examples, 300, kept)
    kept.write_bytes(kept.read_bytes()[:-cut])
    resumed = run(engine, examples, kept)
    assert engine.asked == [100, 100, 20]
    again = FakeEngine("model", examples, right=0.9, seconds=0.05)
    assert run(again, examples, kept).predictions == resumed.predictions
    assert again.asked == []


def test_a_line_cut_within_a_letter_is_half_written_too(tmp_path: Path) -> None:
    odd = [example("triage", 0).model_copy(update={"answer": {"severity": "SEV-1", "root_cause": "été\u2028日本"}})]
    kept = tmp_path / "kept.jsonl"
    run(FakeEngine("model", odd), odd, kept, free=0)
    content = kept.read_bytes()
    kept.write_bytes(content[: content.index("日".encode()) + 1])
    engine = FakeEngine("model", odd)
    (found,) = run(engine, odd, kept, free=0).predictions
    assert engine.asked == [1]
    assert found.parsed and found.parsed["root_cause"] == "été\u2028日本"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"traits": Traits(100, {"max_new_tokens": 20}, 1000)},
        {"traits": Traits(50, {"max_new_tokens": 160}, 1000)},
    ],
)
def test_answers_of_another_model_or_other_settings_are_not_taken(
    tmp_path: Path, examples: list[Example], change: dict[str, object]
) -> None:
    kept = tmp_path / "kept.jsonl"
    run(FakeEngine("model", examples), examples, kept)
    engine = FakeEngine("model", examples)
    for name, value in change.items():
        setattr(engine, name, value)
    run(engine, examples, kept)
    assert sum(engine.asked) == 420


def test_what_cannot_be_scored_counts_neither_for_nor_against(
    tmp_path: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Triage.score

    def sometimes(self: Triage, expected: dict[str, str], predicted: dict[str, str] | None) -> dict[str, bool]:
        if expected["root_cause"] in ("disk 0 was full", "disk 2 was full"):
            raise KeyError("a bug")
        return score(self, expected, predicted)

    monkeypatch.setattr(Triage, "score", sometimes)
    measured = measure(
        "dataset", examples, {"base": run(FakeEngine("model", examples), examples, tmp_path / "k.jsonl")}
    ).roles["base"]
    assert measured.unscored == {"triage": 2}
    assert (measured.metrics["triage"]["severity"].n, measured.metrics["triage"]["severity"].value) == (98, 1.0)
    assert measured.metrics["all"]["valid_json"].n == 400
    assert measured.metrics["all"]["correct"].n == 398


def test_a_skill_that_cannot_be_scored_is_an_error_not_a_bad_model(
    tmp_path: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Triage, "score", lambda self, expected, predicted: {}["bug"])
    with pytest.raises(EvaluationError, match="100 of 400 answers could not be scored"):
        run(FakeEngine("model", examples), examples, tmp_path / "kept.jsonl")


def test_text_figures_and_resources_are_of_the_answers(tmp_path: Path, examples: list[Example]) -> None:
    found = {role: run(FakeEngine(role, examples, right=right), examples, tmp_path / role) for role, right in
             (("base", 0.0), ("challenger", 1.0))}  # fmt: skip
    roles = measure("dataset", examples, found).roles
    good, bad = roles["challenger"].text, roles["base"].text
    assert good and bad
    assert (good.bleu, good.rouge_l, good.n) == (pytest.approx(1.0), pytest.approx(1.0), 400)
    assert bad.bleu and bad.rouge_l and bad.bleu < 0.95 and bad.rouge_l < 0.95
    assert good.perplexity == pytest.approx(math.exp(0.1))
    assert roles["base"].resources.disk_bytes == 1000
    memory = roles["base"].resources.memory_mb
    assert memory and memory > 50


def test_an_engine_that_tells_no_likelihood_and_runs_elsewhere_says_none_rather_than_zero(
    tmp_path: Path, examples: list[Example]
) -> None:
    engine = FakeEngine("far", examples, likelihood=None)
    engine.traits = Traits(100, {}, disk_bytes=None)
    measured = measure("dataset", examples, {"base": run(engine, examples, tmp_path / "kept")}).roles["base"]
    assert measured.text and measured.text.perplexity is None
    assert (measured.resources.memory_mb, measured.resources.disk_bytes) == (None, None)


def test_a_likelihood_is_kept_with_its_answer(tmp_path: Path, examples: list[Example]) -> None:
    engine = FakeEngine("model", examples, likelihood=Likelihood(2.5, 7))
    for _ in range(2):
        found = run(engine, examples, tmp_path / "kept").predictions[0]
        assert (found.nll, found.nll_tokens) == (2.5, 7)
