"""The gate stage: gathers what was measured for each line of gates.yaml, judges it, writes verdict and report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import DataError, EvaluationError, IntegrityError
from opstune.evaluate import champion, report
from opstune.evaluate.champion import Against, Broken
from opstune.evaluate.evaluate import BASE, CHALLENGER, CHAMPION, Evaluation, read_evaluation, read_predictions
from opstune.evaluate.gates import Gates, read_gates
from opstune.evaluate.lines import Line, Status, Verdict
from opstune.evaluate.metrics import ALL
from opstune.evaluate.observing import Compared, observe, paired, scores_of
from opstune.evaluate.red_team import RedTeam, read_red_team
from opstune.evaluate.verdict import decide, judge, judge_parity
from opstune.examples import Example
from opstune.tables import read_examples

_FILE = "verdict.json"
_BROKEN = "newly_broken.jsonl"


def gate(
    folder: Path,
    evaluation: Ref,
    gates: Path,
    tested: Ref | None = None,
    parity_points: float = 1.0,
    *,
    dataset: Ref,
    red_team: Ref | None = None,
    tested_red_team: Ref | None = None,
) -> Ref:
    """Judge the challenger of an evaluation by the lines of ``gates``.

    With ``tested``, the evaluation before conversion, this is the second gate, on the file that ships:
    base and champion are taken from there, and the shipped file may lose ``parity_points`` percentage
    points of overall accuracy against it. ``red_team`` is what attacks on the judged model found; without it
    the lines of that skill do not apply. ``tested_red_team`` is what they found before conversion.

    Files: ``verdict.json``, ``report.html`` and ``report.json``, and where there is a champion
    ``newly_broken.jsonl``: what it had right and the challenger has wrong.

    Raises:
        ConfigError: the gates file is wrong.
        DataError: the evaluations, the attacks and the dataset do not belong together.
        EvaluationError: the challenger was not measured.
        IntegrityError: a file of an input changed.
    """
    wanted = read_gates(gates)
    for ref in filter(None, (evaluation, tested, dataset, red_team, tested_red_team)):
        artifacts.verify(ref)
    settings = {"gates": wanted.model_dump(), "parity_points": parity_points if tested else None}

    def make(out: Path) -> Mapping[str, float]:
        examples = read_examples(dataset.path / "test.parquet")
        compared = _compare(evaluation, tested, _attacked(red_team, tested_red_team, dataset), dataset, examples)
        lines = [judge(line, observe(line, compared), wanted.reach) for line in wanted.lines]
        if tested:
            lines.append(_parity(compared, tested, parity_points))
        found = champion.broken(examples, *(compared.predictions[role] for role in (CHALLENGER, CHAMPION)))
        verdict = decide(lines, _against_champion(compared, wanted))
        material = report.Material(
            verdict, compared, examples, found, _lineage(evaluation, tested, red_team, tested_red_team), bool(tested)
        )
        _write(out, verdict, found, report.contents(material))
        statuses = Counter(line.status for line in lines)
        return {"promote": float(verdict.verdict == "promote"), **{name: statuses[name] for name in get_args(Status)}}

    inputs = {"evaluation": evaluation, "tested": tested, "dataset": dataset}
    inputs |= {"red_team": red_team, "tested_red_team": tested_red_team}
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


def read_newly_broken(ref: Ref) -> list[Broken]:
    """What the champion had right and the judged model has wrong; empty where there was no champion.

    Raises:
        IntegrityError: the list cannot be read.
    """
    path = ref.path / _BROKEN
    try:
        lines = path.read_text().split("\n") if path.is_file() else []
        return [Broken.model_validate_json(line) for line in lines if line]
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{path} is unreadable", "gate", "Run the gate again.") from error


def _compare(
    evaluation: Ref, tested: Ref | None, attacked: RedTeam | None, dataset: Ref, examples: list[Example]
) -> Compared:
    measured = read_evaluation(evaluation)
    if CHALLENGER not in measured.roles:
        todo = "Evaluate the challenger first."
        raise EvaluationError("the evaluation holds no challenger", str(evaluation.path), todo)
    before = read_evaluation(tested) if tested else measured
    _refuse_other_dataset(dataset, (evaluation, measured), (tested or evaluation, before))
    predictions = {role: read_predictions(tested or evaluation, role) for role in (BASE, CHAMPION)}
    gguf = evaluation.manifest["inputs"].get("gguf")
    return Compared(
        evaluation=measured,
        roles={**before.roles, **measured.roles},
        predictions={**predictions, CHALLENGER: read_predictions(evaluation, CHALLENGER)},
        incidents={example.id: example.group_id for example in examples},
        sizes=gguf["counts"] if gguf else None,
        red_team=attacked,
    )


def _attacked(red_team: Ref | None, tested: Ref | None, dataset: Ref) -> RedTeam | None:
    """What attacks found: on the judged model, and on base and champion before conversion."""
    if red_team is None:
        return None
    found = read_red_team(red_team)
    before = read_red_team(tested) if tested else found
    _refuse_other_dataset(dataset, (red_team, found), (tested or red_team, before))
    return found.beside(before)


def _refuse_other_dataset(dataset: Ref, *measured: tuple[Ref, Evaluation | RedTeam]) -> None:
    for ref, found in measured:
        if found.dataset_sha256 != dataset.sha256:
            what = f"{ref.path} was measured on another dataset than {dataset.path}"
            raise DataError(what, "gate", "Pass one run's refs.")


def _parity(compared: Compared, tested: Ref, points: float) -> Line:
    before = {p.id: p.scores["correct"] for p in read_predictions(tested, CHALLENGER) if "correct" in p.scores}
    now = scores_of(compared, CHALLENGER, ALL, "correct")
    return judge_parity(paired(now, before, compared.incidents), points, sum(before.values()) / len(before))


def _against_champion(compared: Compared, wanted: Gates) -> Against | None:
    if CHAMPION not in compared.roles:
        return None
    pairs = {}
    for skill in (ALL, *compared.evaluation.cases):
        ours, theirs = (scores_of(compared, role, skill, "correct") for role in (CHALLENGER, CHAMPION))
        pairs[skill] = paired(ours, theirs, compared.incidents)
    margins = {
        line.skill: -line.threshold
        for line in wanted.lines
        if (line.metric, line.reference, line.direction) == ("correct", "over_champion", "above")
    }
    return champion.against(pairs, margins)


def _write(out: Path, verdict: Verdict, broken: list[Broken], contents: Mapping[str, object]) -> None:
    artifacts.write_text(out / _FILE, json.dumps(verdict.model_dump(), indent=1))
    if verdict.champion:
        artifacts.write_text(out / _BROKEN, champion.as_lines(broken))
    artifacts.write_text(out / "report.json", json.dumps(contents, indent=1, ensure_ascii=False))
    artifacts.write_text(out / "report.html", report.render(contents))


def _lineage(*newest: Ref | None) -> list[Ref]:
    """Everything the judged model came from, nearest first, each once; files that have gone end the line."""
    found: dict[str, Ref] = {}
    waiting = [ref for ref in newest if ref]
    while waiting:
        ref = waiting.pop(0)
        if ref.sha256 in found:
            continue
        found[ref.sha256] = ref
        if artifacts.find(ref.path):
            inputs = ref.manifest["inputs"].values()
            waiting += [Ref.model_validate(entry) for entry in inputs if entry]
    return list(found.values())
