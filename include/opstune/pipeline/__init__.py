"""The whole cycle in plain Python: each stage once, from refs to a ref, and the retrain that chains them.

Airflow runs the same functions, a task each; ``retrain`` runs them in this process. Here a stage gets
its folder, its own settings and its MLflow run; what it does is its room's business. What a stage made is
signed here, and what a stage is given must be signed: files that somebody changed go no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opstune.artifacts import Ref
from opstune.evaluate import Verdict
from opstune.pipeline.deploying import Deployed, deploy_to, roll_back, write_deployment
from opstune.pipeline.history import (
    LABEL_STUDIO,
    NO_LABEL_STUDIO,
    annotation_progress,
    collect_all,
    collect_source,
    dataset,
    pull_annotation,
    push_annotation,
    snapshot,
)
from opstune.pipeline.run import Run, keyring
from opstune.pipeline.shipping import (
    convert,
    deploy,
    evaluate,
    evaluate_shipped,
    gate,
    gate_shipped,
    read_verdict,
    red_team,
    red_team_shipped,
    register,
)
from opstune.pipeline.training import begin_hosted, check_training, run_training

__all__ = [
    "LABEL_STUDIO",
    "NO_LABEL_STUDIO",
    "Deployed",
    "Outcome",
    "Run",
    "annotation_progress",
    "begin_hosted",
    "check_training",
    "collect_all",
    "collect_source",
    "convert",
    "dataset",
    "deploy",
    "deploy_to",
    "evaluate",
    "evaluate_shipped",
    "gate",
    "gate_shipped",
    "keyring",
    "pull_annotation",
    "push_annotation",
    "read_verdict",
    "red_team",
    "red_team_shipped",
    "register",
    "retrain",
    "roll_back",
    "run_training",
    "snapshot",
    "write_deployment",
]


@dataclass(frozen=True)
class Outcome:
    """How a retrain ended: the verdict that decided, and the version when there is one."""

    verdict: Verdict
    version: str | None
    refs: Mapping[str, Ref]


def retrain(run: Run) -> Outcome:
    """One retrain from collection to the champion's alias, or to the verdict that stopped it."""
    refs = {"examples": snapshot(run, collect_all(run.settings))}
    refs["dataset"] = dataset(run, refs["examples"])
    refs["adapter"] = run_training(run, refs["dataset"])
    refs["evaluation"] = evaluate(run, refs["dataset"], refs["adapter"])
    refs["red_team"] = red_team(run, refs["dataset"], refs["adapter"])
    refs["verdict"] = gate(run, refs["dataset"], refs["evaluation"], refs["red_team"])
    if (verdict := read_verdict(refs["verdict"])).verdict != "promote":
        return Outcome(verdict, None, refs)
    refs["gguf"] = convert(run, refs["adapter"])
    refs["shipped_evaluation"] = evaluate_shipped(run, refs["dataset"], refs["gguf"])
    refs["shipped_red_team"] = red_team_shipped(run, refs["dataset"], refs["gguf"])
    judged = "dataset", "shipped_evaluation", "shipped_red_team", "evaluation", "red_team"
    refs["shipped_verdict"] = gate_shipped(run, *(refs[name] for name in judged))
    if (verdict := read_verdict(refs["shipped_verdict"])).verdict != "promote":
        return Outcome(verdict, None, refs)
    version = register(run, refs)
    deploy(run, version)
    return Outcome(verdict, version, refs)
