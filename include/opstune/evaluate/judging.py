"""The gate stage: gathers what was measured for each line of gates.yaml, judges it, writes verdict and report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import DataError, EvaluationError, IntegrityError
from opstune.evaluate.evaluate import BASE, CHALLENGER, CHAMPION, Evaluation, read_evaluation, read_predictions
from opstune.evaluate.gates import LATENCY_P95, Gate, read_gates
from opstune.evaluate.metrics import ALL
from opstune.evaluate.predict import Prediction
from opstune.evaluate.report import Material, render
from opstune.evaluate.verdict import (
    DifferenceSeen,
    LatencySeen,
    Seen,
    ShareSeen,
    Status,
    Verdict,
    decide,
    judge,
    judge_parity,
)
from opstune.tables import read_examples

_FILE = "verdict.json"
_REPORT = "report.html"


@dataclass(frozen=True)
class Compared:
    """The models that a gate looks at: figures of the judged one, and every role's predictions."""

    evaluation: Evaluation
    predictions: Mapping[str, Sequence[Prediction]]


def gate(
    folder: Path,
    evaluation: Ref,
    gates: Path,
    tested: Ref | None = None,
    parity_points: float = 1.0,
    *,
    dataset: Ref,
) -> Ref:
    """Judge the challenger of an evaluation by the lines of ``gates``.

    With ``tested``, the evaluation before conversion, this is the second gate, on the file that ships:
    base and champion are taken from there, and the shipped file may lose ``parity_points`` percentage
    points of overall accuracy against it.

    Raises:
        ConfigError: the gates file is wrong.
        DataError: the evaluations and the dataset do not belong together.
        EvaluationError: the challenger was not measured.
        IntegrityError: a file of an input changed.
    """
    wanted = read_gates(gates)
    for ref in filter(None, (evaluation, tested, dataset)):
        artifacts.verify(ref)
    settings = {"gates": wanted.model_dump(), "parity_points": parity_points if tested else None}

    def make(out: Path) -> Mapping[str, float]:
        compared = _compare(evaluation, tested, dataset)
        lines = [judge(line, observe(line, compared), wanted.reach) for line in wanted.lines]
        if tested:
            before = read_predictions(tested, CHALLENGER)
            share = read_evaluation(tested).roles[CHALLENGER].metrics[ALL]["correct"]
            pairs = _paired(compared.predictions[CHALLENGER], before, ALL, "correct")
            lines.append(judge_parity(pairs, parity_points, share.value))
        verdict = decide(lines)
        material = Material(
            verdict=verdict,
            evaluation=compared.evaluation,
            tested=read_evaluation(tested) if tested else None,
            predictions=compared.predictions,
            examples=read_examples(dataset.path / "test.parquet"),
            lineage=_lineage(evaluation, tested),
        )
        artifacts.write_text(out / _FILE, json.dumps(verdict.model_dump(), indent=1))
        artifacts.write_text(out / _REPORT, render(material))
        statuses = Counter(line.status for line in lines)
        return {"promote": float(verdict.verdict == "promote"), **{name: statuses[name] for name in get_args(Status)}}

    inputs = {"evaluation": evaluation, "tested": tested, "dataset": dataset}
    return artifacts.build(folder, "verdict", inputs, settings, make)


def read_verdict(ref: Ref) -> Verdict:
    """The verdict in a gate's folder.

    Raises:
        IntegrityError: it cannot be read.
    """
    path = ref.path / _FILE
    try:
        return Verdict.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{path} is missing or unreadable", "gate", "Run the gate again.") from error


def observe(line: Gate, compared: Compared) -> Seen:
    """What was measured for one line."""
    evaluation, predictions = compared.evaluation, compared.predictions
    if line.skill != ALL and line.skill not in evaluation.cases:
        return Seen(None, absent=f"the test set holds no {line.skill} cases")
    if line.metric == LATENCY_P95:
        asked = [p for p in predictions[CHALLENGER] if _of(line.skill, p)]
        alone = tuple(sorted(p.seconds * 1000 for p in asked if p.seconds is not None))
        absent = "measured on the file that ships, where requests are answered alone"
        return Seen(LatencySeen(alone) if alone else None, absent)
    base, champion = (_share(predictions.get(role, ()), line) for role in (BASE, CHAMPION))
    constant = evaluation.majority[line.skill].metrics.get(line.metric) if line.skill != ALL else None
    majority = constant.value if constant else None
    if line.reference == "absolute":
        scores = _scores(predictions[CHALLENGER], line.skill, line.metric)
        return Seen(ShareSeen(sum(scores.values()), len(scores)), "", base, champion, majority)
    role = BASE if line.reference == "over_base" else CHAMPION
    if not predictions.get(role):
        return Seen(None, f"there is no {role} to compare with", base, champion, majority)
    pairs = _paired(predictions[CHALLENGER], predictions[role], line.skill, line.metric)
    return Seen(pairs, "", base, champion, majority)


def _compare(evaluation: Ref, tested: Ref | None, dataset: Ref) -> Compared:
    measured = read_evaluation(evaluation)
    if CHALLENGER not in measured.roles:
        todo = "Evaluate the challenger first."
        raise EvaluationError("the evaluation holds no challenger", str(evaluation.path), todo)
    for ref in filter(None, (evaluation, tested)):
        if read_evaluation(ref).dataset_sha256 != dataset.sha256:
            what = f"{ref.path} was measured on another dataset than {dataset.path}"
            raise DataError(what, "gate", "Pass one run's refs.")
    others = tested or evaluation
    predictions = {role: read_predictions(others, role) for role in (BASE, CHAMPION)}
    return Compared(measured, {**predictions, CHALLENGER: read_predictions(evaluation, CHALLENGER)})


def _of(skill: str, prediction: Prediction) -> bool:
    return skill in (ALL, prediction.skill)


def _scores(predictions: Sequence[Prediction], skill: str, metric: str) -> dict[str, bool]:
    return {p.id: p.scores[metric] for p in predictions if _of(skill, p) and metric in p.scores}


def _share(predictions: Sequence[Prediction], line: Gate) -> float | None:
    scores = _scores(predictions, line.skill, line.metric)
    return sum(scores.values()) / len(scores) if scores else None


def _paired(ours: Sequence[Prediction], theirs: Sequence[Prediction], skill: str, metric: str) -> DifferenceSeen:
    """Where only one of two models holds, over the cases that the metric applies to in both."""
    mine, other = _scores(ours, skill, metric), _scores(theirs, skill, metric)
    both = [id_ for id_ in mine if id_ in other]
    gained = sum(mine[id_] and not other[id_] for id_ in both)
    lost = sum(other[id_] and not mine[id_] for id_ in both)
    return DifferenceSeen(gained, lost, len(both))


def _lineage(evaluation: Ref, tested: Ref | None) -> list[Ref]:
    """Everything the judged model came from, nearest first, each once; files that have gone end the line."""
    found: dict[str, Ref] = {}
    waiting = [ref for ref in (evaluation, tested) if ref]
    while waiting:
        ref = waiting.pop(0)
        if ref.sha256 in found:
            continue
        found[ref.sha256] = ref
        if artifacts.find(ref.path):
            inputs = ref.manifest["inputs"].values()
            waiting += [Ref.model_validate(entry) for entry in inputs if entry]
    return list(found.values())
