"""The evaluation stage: base, champion and challenger on the same frozen test set, and what their answers are worth."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.engines.base import Engine
from opstune.errors import EvaluationError, IntegrityError
from opstune.evaluate.metrics import (
    VALID,
    Frozen,
    Latency,
    Majority,
    Share,
    cause_similarity,
    confusion,
    latency,
    majority,
    shares,
)
from opstune.evaluate.predict import Predicted, Prediction, predict
from opstune.evaluate.text import Text, bleu, perplexity, rouge_l
from opstune.examples import Example
from opstune.settings import EvaluateSettings
from opstune.skills.base import target
from opstune.tables import read_examples

log = logging.getLogger(__name__)

BASE, CHAMPION, CHALLENGER = "base", "champion", "challenger"
ROLES = (BASE, CHAMPION, CHALLENGER)
_FILE = "evaluation.json"


class Resources(Frozen):
    """What a model takes: the process's most memory while it answered, and its files. None where it runs elsewhere.

    Megabytes are 2**20 bytes. Models of one evaluation share a process, so the memory of a later one may hold what an
    earlier one has not given back.
    """

    memory_mb: float | None
    disk_bytes: int | None


class Measured(Frozen):
    """One model: skill → metric → share. ``free`` and ``constrained_sample`` are of the same sampled cases.

    ``unscored`` is skill → cases whose scoring failed: they count in no metric, neither for nor against the model.
    ``root_causes`` is skill → mean similarity of the root causes that it names, 0 to 1, where any is known.
    """

    engine: str
    metrics: dict[str, dict[str, Share]]
    free: dict[str, dict[str, Share]]
    constrained_sample: dict[str, dict[str, Share]]
    confusion: dict[str, dict[str, dict[str, int]]]
    root_causes: dict[str, float] = Field(default_factory=dict)
    latency: Latency | None
    text: Text | None = None
    resources: Resources = Resources(memory_mb=None, disk_bytes=None)
    unscored: dict[str, int] = Field(default_factory=dict)
    seconds: float
    cases_per_second: float
    tokens: int


class Evaluation(Frozen):
    """``cases`` is how many examples of each skill the test set holds."""

    dataset_sha256: str
    cases: dict[str, int]
    roles: dict[str, Measured]
    majority: dict[str, Majority]


def evaluate(
    folder: Path,
    dataset: Ref,
    engines: Mapping[str, Callable[[], Engine]],
    settings: EvaluateSettings,
    inputs: Mapping[str, Ref | None],
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Ref:
    """Measure each role's model on the dataset's test set.

    ``engines`` maps ``base``, ``champion``, ``challenger`` (some or all) to what opens them; ``inputs``
    names the refs that the models come from. ``on_progress`` gets role, cases answered, cases in all.
    A case whose answer stands in ``<folder>.work/`` from an earlier try is not asked again.

    Raises:
        EvaluationError: the test set is empty, or a model could not be measured: nobody may judge it then.
        IntegrityError: a file of an input changed.
    """
    for ref in (dataset, *inputs.values()):
        if ref:
            artifacts.verify(ref)
    work = folder.with_name(f"{folder.name}.work")
    roles = [role for role in ROLES if role in engines]
    opened = {role: engines[role]() for role in roles}  # weights are hashed here, and loaded at the first question
    asked = {**settings.model_dump(), "engines": {role: identity(engine) for role, engine in opened.items()}}

    def make(out: Path) -> Mapping[str, float]:
        examples = read_examples(dataset.path / "test.parquet")
        if not examples:
            todo = "Collect more history; see the dataset card."
            raise EvaluationError("the test set is empty", str(dataset.path), todo)
        predicted = {  # each is let go when it has answered, so that one model at a time is in memory
            role: predict(
                role, opened.pop(role), examples, dataset.sha256, settings, work / f"{role}.jsonl", on_progress
            )
            for role in roles
        }
        evaluation = measure(dataset.sha256, examples, predicted)
        for role, found in predicted.items():
            lines = (prediction.model_dump_json() for prediction in found.predictions)
            artifacts.write_text(out / f"predictions-{role}.jsonl", "".join(f"{line}\n" for line in lines))
        artifacts.write_text(out / _FILE, json.dumps(evaluation.model_dump(), indent=1))
        return _counts(evaluation)

    ref = artifacts.build(folder, "evaluation", {**inputs, "dataset": dataset}, asked, make)
    shutil.rmtree(work, ignore_errors=True)
    return ref


def measure(dataset_sha256: str, examples: Sequence[Example], predicted: Mapping[str, Predicted]) -> Evaluation:
    """Every figure of an evaluation, from the test set and what each model said about it. Pure."""
    answers: dict[str, list[Example]] = {}
    for example in examples:
        answers.setdefault(example.skill, []).append(example)
    return Evaluation(
        dataset_sha256=dataset_sha256,
        cases={skill: len(of_skill) for skill, of_skill in answers.items()},
        roles={role: _measured(examples, found) for role, found in predicted.items()},
        majority={skill: majority(skill, [e.answer for e in of_skill]) for skill, of_skill in answers.items()},
    )


def _measured(examples: Sequence[Example], predicted: Predicted) -> Measured:
    predictions = predicted.predictions
    sampled = [prediction for prediction in predictions if prediction.free]
    pairs: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        pairs.setdefault(prediction.skill, []).append(prediction)
    expected = {example.id: example.answer for example in examples}
    unscored = Counter(p.skill for p in predictions if set(p.scores) == {VALID})
    alone = [p for p in predictions if p.seconds is not None]
    said = {skill: [(expected[p.id], p.parsed) for p in of_skill] for skill, of_skill in pairs.items()}
    causes = {skill: cause_similarity(of_skill) for skill, of_skill in said.items()}
    return Measured(
        engine=predicted.engine,
        metrics=shares((p.skill, p.scores) for p in predictions),
        free=shares((p.skill, p.free.scores) for p in sampled if p.free),
        constrained_sample=shares((p.skill, p.scores) for p in sampled),
        confusion={skill: confusion(skill, of_skill) for skill, of_skill in said.items()},
        root_causes={skill: alike for skill, alike in causes.items() if alike is not None},
        latency=latency([p.seconds for p in alone if p.seconds is not None], sum(p.tokens for p in alone)),
        text=_text(predictions, [target(expected[p.id]) for p in predictions]),
        resources=Resources(memory_mb=predicted.memory_mb, disk_bytes=predicted.disk_bytes),
        unscored=dict(unscored),
        seconds=round(predicted.seconds, 3),
        cases_per_second=len(predictions) / max(predicted.seconds, 1e-9),
        tokens=sum(p.tokens for p in predictions),
    )


def _text(predictions: Sequence[Prediction], expected: Sequence[str]) -> Text | None:
    if not predictions:
        return None
    said = [p.text for p in predictions]
    likely = [(p.nll, p.nll_tokens) for p in predictions if p.nll is not None]
    return Text(
        perplexity=perplexity([nll for nll, _ in likely], [tokens for _, tokens in likely]),
        bleu=bleu(expected, said),
        rouge_l=rouge_l(expected, said),
        n=len(predictions),
    )


def identity(engine: Engine) -> dict[str, str | int]:
    return {"name": engine.name, **engine.traits.settings}


def read_evaluation(ref: Ref) -> Evaluation:
    """The figures of an evaluation.

    Raises:
        IntegrityError: they cannot be read.
    """
    path = ref.path / _FILE
    try:
        return Evaluation.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{path} is missing or unreadable", "evaluation", "Run the evaluation again.") from error


def read_predictions(ref: Ref, role: str) -> list[Prediction]:
    """What one role's model said, in the order of the test set; empty when the role was not measured."""
    path = ref.path / f"predictions-{role}.jsonl"
    if not path.is_file():
        return []
    # Not splitlines(): it also cuts at the rarer line ends that an answer may hold.
    return [Prediction.model_validate_json(line) for line in path.read_text().split("\n") if line]


def _counts(evaluation: Evaluation) -> dict[str, float]:
    """What travels with the ref: how many cases, and each role's shares and similarities by skill and metric."""
    found = {
        f"{role}.{skill}.{metric}": round(share.value, 4)
        for role, measured in evaluation.roles.items()
        for skill, metrics in measured.metrics.items()
        for metric, share in metrics.items()
    }
    causes = {
        f"{role}.{skill}.root_cause_similarity": round(alike, 4)
        for role, measured in evaluation.roles.items()
        for skill, alike in measured.root_causes.items()
    }
    return {"cases": sum(evaluation.cases.values()), **found, **causes}
