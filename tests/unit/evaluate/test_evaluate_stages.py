"""Evaluation and gate as stages: what they write, when they do work, and when they refuse."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_engine import FakeEngine, example, write_dataset

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.engines.base import Answer, Engine
from opstune.errors import ConfigError, DataError, EvaluationError, IntegrityError, ServiceDown
from opstune.evaluate import evaluate, gate, read_evaluation, read_gates, read_newly_broken, read_verdict
from opstune.evaluate.evaluate import read_predictions
from opstune.examples import Example
from opstune.settings import EvaluateSettings, config_dir
from opstune.skills import SKILLS

GATES = """
lines:
  - {skill: remediation, metric: function, direction: above, threshold: 0.90, minimum: 100}
  - {skill: triage, metric: severity, direction: above, threshold: 0.70, minimum: 40}
  - {skill: log_error, metric: category, direction: above, threshold: 0.70, minimum: 40}
  - {skill: all, metric: correct, direction: above, threshold: 0.15, reference: over_base, minimum: 40}
  - {skill: all, metric: correct, direction: above, threshold: -0.02, reference: over_champion, minimum: 40}
  - {skill: all, metric: latency_p95_ms, direction: below, threshold: 500, minimum: 59}
"""

Make = Callable[..., Ref]


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    path = tmp_path / "gates.yaml"
    path.write_text(GATES)
    return path


@pytest.fixture
def make(tmp_path: Path, dataset: Ref, settings: EvaluateSettings) -> Make:
    """Evaluate some engines into a folder."""

    def evaluated(name: str = "evaluate", **engines: FakeEngine) -> Ref:
        opened: Mapping[str, Callable[[], Engine]] = {role: lambda e=engine: e for role, engine in engines.items()}
        return evaluate(tmp_path / name, dataset, opened, settings, {"adapter": None})

    return evaluated


@pytest.fixture
def engines(examples: list[Example]) -> dict[str, FakeEngine]:
    return {
        "base": FakeEngine("base", examples, right=0.1),
        "champion": FakeEngine("champion", examples, right=0.97),
        "challenger": FakeEngine("challenger", examples, right=0.985),
    }


def test_every_role_is_measured_on_the_same_cases(make: Make, engines: dict[str, FakeEngine]) -> None:
    found = read_evaluation(make(**engines))
    assert list(found.roles) == ["base", "champion", "challenger"]
    assert {measured.metrics["all"]["correct"].n for measured in found.roles.values()} == {400}
    assert found.cases == {"remediation": 300, "triage": 100}
    base, challenger = (found.roles[role].metrics["all"]["correct"].value for role in ("base", "challenger"))
    assert base < 0.3 < 0.95 < challenger


def test_how_alike_root_causes_are_travels_beside_the_shares(make: Make, engines: dict[str, FakeEngine]) -> None:
    ref = make(**engines)
    found = {role: measured.root_causes for role, measured in read_evaluation(ref).roles.items()}
    assert found["base"]["triage"] < 0.9 < found["challenger"]["triage"] <= 1
    assert ref.counts["challenger.triage.root_cause_similarity"] == round(found["challenger"]["triage"], 4)
    assert "remediation" not in found["challenger"]


def test_free_decoding_is_measured_on_a_sample_beside_the_same_constrained_cases(
    make: Make, engines: dict[str, FakeEngine]
) -> None:
    ref = make(**engines)
    measured = read_evaluation(ref).roles["challenger"]
    assert measured.free["all"]["correct"].n == measured.constrained_sample["all"]["correct"].n == 20
    sampled = [[p.id for p in read_predictions(ref, role) if p.free] for role in ("base", "challenger")]
    assert sampled[0] == sampled[1]


def test_a_model_is_let_go_before_the_next_one_is_asked(
    tmp_path: Path, dataset: Ref, settings: EvaluateSettings, examples: list[Example]
) -> None:
    """Weights are loaded at the first question, so that no two models are in memory together."""
    asked: list[weakref.ref[FakeEngine]] = []

    class Loaded(FakeEngine):
        def answer(self, *args: Any, **kwargs: Any) -> list[Answer]:
            assert [other.name for ref in asked if (other := ref()) and other is not self] == []
            asked.append(weakref.ref(self))
            return super().answer(*args, **kwargs)

    roles = ("base", "champion", "challenger")
    opened: dict[str, Callable[[], Engine]] = {role: lambda role=role: Loaded(role, examples) for role in roles}
    evaluate(tmp_path / "evaluate", dataset, opened, settings, {})
    assert len(asked) == 15


def test_a_finished_evaluation_asks_no_model_again(make: Make, engines: dict[str, FakeEngine]) -> None:
    first = make(**engines)
    asked = [list(engine.asked) for engine in engines.values()]
    assert make(**engines) == first
    assert [engine.asked for engine in engines.values()] == asked


def test_a_retry_asks_only_the_models_that_were_not_finished(
    make: Make, engines: dict[str, FakeEngine], tmp_path: Path
) -> None:
    challenger = engines["challenger"]
    challenger.broken = ServiceDown("the engine went away")
    with pytest.raises(ServiceDown):
        make(**engines)
    assert (tmp_path / "evaluate.work" / "base.jsonl").is_file()
    challenger.broken = None
    make(**engines)
    assert engines["base"].asked == engines["champion"].asked == [100, 100, 100, 100, 20]
    assert not (tmp_path / "evaluate.work").exists()


def test_another_model_s_kept_predictions_are_not_used(make: Make, engines: dict[str, FakeEngine]) -> None:
    engines["challenger"].broken = ServiceDown("the engine went away")
    with pytest.raises(ServiceDown):
        make(**engines)
    engines["challenger"].broken = None
    engines["base"].name = "another base"
    make(**engines)
    assert engines["base"].asked == [100, 100, 100, 100, 20] * 2


@pytest.mark.parametrize("fault", [{"broken": RuntimeError("a bug")}, {"drop": 1}])
def test_a_model_that_was_not_measured_is_an_error_and_leaves_nothing(
    make: Make, examples: list[Example], tmp_path: Path, fault: dict[str, Any]
) -> None:
    with pytest.raises(EvaluationError):
        make(challenger=FakeEngine("lost", examples, **fault))
    assert not (tmp_path / "evaluate").exists()


def test_an_engine_lost_half_way_leaves_nothing_that_a_gate_could_reject(
    make: Make, engines: dict[str, FakeEngine], tmp_path: Path
) -> None:
    """The task is red and is tried again: whoever judges finds no evaluation, and the answers kept so far are none."""
    engines["challenger"].broken, engines["challenger"].after = ServiceDown("the engine went away"), 200
    with pytest.raises(ServiceDown, match="the engine went away"):
        make(**engines)
    assert engines["challenger"].asked == [100, 100]
    assert artifacts.find(tmp_path / "evaluate") is None
    assert (tmp_path / "evaluate.work" / "challenger.jsonl").is_file()


def test_an_empty_test_set_is_an_error(tmp_path: Path, settings: EvaluateSettings) -> None:
    empty = write_dataset(tmp_path / "empty", [])
    with pytest.raises(EvaluationError, match="empty"):
        evaluate(tmp_path / "out", empty, {"challenger": lambda: FakeEngine("x", [])}, settings, {})


def test_a_changed_test_set_is_refused_by_name(make: Make, engines: dict[str, FakeEngine], dataset: Ref) -> None:
    with (dataset.path / "test.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(IntegrityError, match=r"test\.parquet"):
        make(**engines)


def test_a_good_challenger_is_promoted(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    ref = gate(tmp_path / "gate", make(**engines), gates, dataset=dataset)
    verdict = read_verdict(ref)
    assert verdict.verdict == "promote", verdict.sentence
    assert ref.counts["promote"] == 1
    statuses = {(line.skill, line.metric, line.reference): line.status for line in verdict.lines}
    assert statuses["log_error", "category", "absolute"] == "not_applicable"
    assert statuses["all", "latency_p95_ms", "absolute"] == "not_applicable"


def test_without_a_champion_its_lines_do_not_apply(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    del engines["champion"]
    verdict = read_verdict(gate(tmp_path / "gate", make(**engines), gates, dataset=dataset))
    assert verdict.verdict == "promote"
    assert [line.status for line in verdict.lines if line.reference == "over_champion"] == ["not_applicable"]


def test_worse_on_one_skill_is_rejected_by_that_line_however_good_the_whole(
    make: Make, engines: dict[str, FakeEngine], examples: list[Example], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    engines["champion"] = FakeEngine("champion", examples, right={"remediation": 0.8, "triage": 1.0})
    engines["challenger"] = FakeEngine("challenger", examples, right={"remediation": 1.0, "triage": 0.5})
    verdict = read_verdict(gate(tmp_path / "gate", make(**engines), gates, dataset=dataset))
    assert verdict.verdict == "reject"
    assert [(line.skill, line.metric) for line in verdict.lines if line.status == "failed"] == [("triage", "severity")]
    assert "triage severity" in verdict.sentence


def test_worse_than_the_champion_on_one_skill_is_rejected_by_that_line_however_much_better_the_whole(
    make: Make, engines: dict[str, FakeEngine], examples: list[Example], dataset: Ref, tmp_path: Path
) -> None:
    """By the gates that ship: every absolute line of triage passes, and it answers more than the champion did."""
    engines["champion"] = FakeEngine("champion", examples, right={"remediation": 0.9, "triage": 1.0})
    engines["challenger"] = FakeEngine("challenger", examples, right={"remediation": 1.0, "triage": 0.9})
    verdict = read_verdict(gate(tmp_path / "gate", make(**engines), config_dir() / "gates.yaml", dataset=dataset))
    failed = [(line.skill, line.metric, line.reference) for line in verdict.lines if line.status == "failed"]
    assert failed == [("triage", "correct", "over_champion")]
    assert verdict.verdict == "reject"
    assert verdict.sentence.startswith("Rejected: triage correct over champion: ")
    assert verdict.champion and verdict.champion.word == "better"
    words = {one.skill: one.word for one in verdict.champion.comparisons}
    assert words == {"all": "better", "remediation": "better", "triage": "worse"}


def test_a_challenger_equal_to_the_champion_passes_and_is_not_called_better(
    make: Make, engines: dict[str, FakeEngine], examples: list[Example], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    engines["champion"] = engines["challenger"]
    verdict = read_verdict(gate(tmp_path / "gate", make(**engines), gates, dataset=dataset))
    assert verdict.verdict == "promote"
    assert verdict.champion and verdict.champion.word == "not_worse"
    assert "Better" not in verdict.sentence and "not shown to be better" in verdict.sentence


def test_newly_broken_cases_stand_beside_the_verdict(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    evaluation = make(**engines)
    ref = gate(tmp_path / "gate", evaluation, gates, dataset=dataset)
    right = {role: {p.id for p in read_predictions(evaluation, role) if p.scores["correct"]} for role in engines}
    found = read_newly_broken(ref)
    assert {case.id for case in found} == right["champion"] - right["challenger"]
    assert found and all(case.prompt and case.expected != case.got for case in found)
    told = json.loads((ref.path / "report.json").read_text())["champion"]["broken"]
    assert [case["id"] for case in told] == [case.id for case in found]


def test_without_a_champion_nothing_is_newly_broken(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    del engines["champion"]
    ref = gate(tmp_path / "gate", make(**engines), gates, dataset=dataset)
    assert read_newly_broken(ref) == []
    assert not (ref.path / "newly_broken.jsonl").exists()


def test_thirty_cases_cannot_say(tmp_path: Path, settings: EvaluateSettings, gates: Path) -> None:
    few = [example("remediation", n) for n in range(30)]
    dataset = write_dataset(tmp_path / "few", few)
    ref = evaluate(tmp_path / "evaluate", dataset, {"challenger": lambda: FakeEngine("x", few)}, settings, {})
    verdict = read_verdict(gate(tmp_path / "gate", ref, gates, dataset=dataset))
    assert verdict.verdict == "insufficient_data"
    assert "70 more test cases" in verdict.sentence


def test_what_ships_is_held_against_what_was_tested(
    make: Make, engines: dict[str, FakeEngine], examples: list[Example], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    tested = make(**engines)
    same = make("shipped", challenger=FakeEngine("challenger", examples, right=0.985, seconds=0.05))
    worse = make("worse", challenger=FakeEngine("other", examples, right=0.955, seconds=0.05))
    good = read_verdict(gate(tmp_path / "good", same, gates, tested=tested, dataset=dataset))
    bad = read_verdict(gate(tmp_path / "bad", worse, gates, tested=tested, dataset=dataset))
    assert good.verdict == "promote", good.sentence
    assert {line.reference for line in good.lines if line.status == "passed"} == {
        "absolute",
        "over_base",
        "over_champion",
        "over_tested",
    }
    assert bad.verdict == "reject"
    assert "all correct once converted" in bad.sentence


def test_a_slow_file_is_rejected(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    engines["challenger"].seconds = 0.6
    verdict = read_verdict(gate(tmp_path / "gate", make(**engines), gates, dataset=dataset))
    assert (verdict.verdict, [line.metric for line in verdict.lines if line.status == "failed"]) == (
        "reject",
        ["latency_p95_ms"],
    )


def test_an_evaluation_of_another_dataset_is_refused(
    make: Make, engines: dict[str, FakeEngine], gates: Path, tmp_path: Path
) -> None:
    other = write_dataset(tmp_path / "other", [example("triage", 1)])
    with pytest.raises(DataError, match="another dataset"):
        gate(tmp_path / "gate", make(**engines), gates, dataset=other)


def test_a_gate_without_a_challenger_is_an_error(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    del engines["challenger"]
    with pytest.raises(EvaluationError, match="no challenger"):
        gate(tmp_path / "gate", make(**engines), gates, dataset=dataset)


def test_changed_gates_judge_again(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    evaluation = make(**engines)
    assert read_verdict(gate(tmp_path / "gate", evaluation, gates, dataset=dataset)).verdict == "promote"
    gates.write_text(GATES.replace("0.70, minimum: 40", "0.999, minimum: 40"))
    assert read_verdict(gate(tmp_path / "gate", evaluation, gates, dataset=dataset)).verdict == "reject"


def test_predictions_that_were_changed_are_refused_by_name(
    make: Make, engines: dict[str, FakeEngine], gates: Path, dataset: Ref, tmp_path: Path
) -> None:
    evaluation = make(**engines)
    predictions = evaluation.path / "predictions-challenger.jsonl"
    predictions.write_text(predictions.read_text().replace('"correct":false', '"correct":true'))
    with pytest.raises(IntegrityError, match="predictions-challenger"):
        gate(tmp_path / "gate", evaluation, gates, dataset=dataset)


def test_an_odd_answer_survives_its_file(tmp_path: Path, settings: EvaluateSettings, examples: list[Example]) -> None:
    odd = example("triage", 0).model_copy(
        update={"answer": {"severity": "SEV-1", "root_cause": "line\u2028break\x85 \n"}}
    )
    dataset = write_dataset(tmp_path / "odd", [odd])
    ref = evaluate(tmp_path / "evaluate", dataset, {"challenger": lambda: FakeEngine("x", [odd])}, settings, {})
    (read,) = read_predictions(ref, "challenger")
    assert read.parsed is not None and read.parsed["root_cause"] == odd.answer["root_cause"]
    shutil.rmtree(ref.path)


def test_the_shipped_gates_are_valid_and_hold_the_seeds_lines() -> None:
    lines = {
        (g.skill, g.metric, g.reference): (g.direction, g.threshold, g.kind)
        for g in read_gates(config_dir() / "gates.yaml").lines
    }
    assert lines["remediation", "function", "absolute"] == ("above", 0.90, "bound")
    assert lines["remediation", "parameters", "absolute"] == ("above", 0.95, "bound")
    assert lines["remediation", "false_positive", "absolute"] == ("below", 0.05, "bound")
    assert lines["all", "correct", "absolute"] == ("above", 0.75, "bound")
    assert lines["all", "latency_p95_ms", "absolute"] == ("below", 500, "bound")
    assert lines["all", "correct", "over_base"] == ("above", 0.15, "bound")
    assert lines["all", "perplexity", "absolute"] == ("below", 10, "alarm")
    assert lines["all", "bleu", "absolute"] == ("above", 0.3, "alarm")
    assert lines["all", "size_reduction", "absolute"] == ("above", 0.75, "alarm")
    assert lines["triage", "root_cause", "absolute"] == ("above", 0.80, "alarm")
    assert lines["red_team", "canary", "absolute"] == ("above", 0.999, "point")
    for skill in SKILLS:
        assert lines[skill, "correct", "over_champion"][2] == "guard"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("skill: remedy", "no such skill"),
        ("direction: over", "direction"),
        ("kind: guess", "kind"),
        ("minimum: 0", "minimum"),
        ("treshold: 1", "no such key"),
        ("metric: function", "over all skills there is no metric"),
        ("skill: red_team", "the red team has no metric correct"),
        ("skill: triage, metric: function", "triage has no metric function; known: correct, severity, root_cause"),
        ("metric: bleu", "has no bound"),
        ("metric: latency_p95_ms", "upper bound only"),
        ("kind: guard", "another model"),
        ("skill: triage, metric: perplexity", "over all skills together"),
        ("reference: over_base, metric: perplexity", "can only be absolute"),
    ],
)
def test_a_wrong_gate_is_told_with_its_key(tmp_path: Path, wrong: str, told: str) -> None:
    entry = {"skill": "all", "metric": "correct", "direction": "above", "kind": "bound", "minimum": 1, "threshold": 0.5}
    path = tmp_path / "gates.yaml"
    path.write_text(yaml.safe_dump({"lines": [{**entry, **yaml.safe_load(f"{{{wrong}}}")}]}))
    with pytest.raises(ConfigError, match=told):
        read_gates(path)
