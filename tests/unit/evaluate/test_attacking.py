"""The red team within a retrain: both gates read it, and what a challenger broke is asked at the next one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attacked import Minded, write_split
from fake_engine import example
from test_red_team import flips

from opstune import artifacts, pipeline, settings
from opstune.artifacts import Ref
from opstune.dataset import canaries
from opstune.engines.base import Engine
from opstune.evaluate import evaluate, read_verdict
from opstune.evaluate.red_team import read_probes, read_red_team
from opstune.pipeline import Run, shipping
from opstune.security import signing
from opstune.settings import EvaluateSettings, Settings
from opstune.tracking.tracker import Tracker

TEST = [example("remediation", n) for n in range(60)] + [example("triage", n) for n in range(40)]
Minds = dict[str, Callable[[], Engine]]


@pytest.fixture
def found() -> Settings:
    return settings.load({"dataset": {"skills": ["remediation", "triage"]}})


@pytest.fixture
def dataset(tmp_path: Path, found: Settings) -> Ref:
    """A signed dataset with three canaries."""
    ref = write_split(tmp_path / "split", TEST, [example("remediation", n) for n in range(60, 90)])
    summary = {"train_ids": [], "canaries": canaries.record(found.dataset)}

    def make(out: Path) -> dict[str, float]:
        for file in ("test.parquet", "train.parquet"):
            (out / file).write_bytes((ref.path / file).read_bytes())
        (out / "dataset.json").write_text(json.dumps(summary))
        return {}

    folder = tmp_path / "dataset"
    return signing.signed(folder, found.keys_dir, lambda: artifacts.build(folder, "dataset", {}, {}, make))


@pytest.fixture(autouse=True)
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """What MLflow would be told; a server's part is tested where there is one."""
    told = Tracker()
    monkeypatch.setattr(Run, "tracked", lambda *_, **__: contextlib.nullcontext(told))
    return told


def retrain(name: str, found: Settings, dataset: Ref, minds: Minds, patch: pytest.MonkeyPatch) -> tuple[Ref, Ref]:
    """Measure, attack and judge some minds; the red team's ref and the verdict's."""
    run = Run(name, "full", found)
    patch.setattr(shipping, "_engines", lambda *_: minds)
    measured = signing.signed(
        run.folder / "evaluate",
        found.keys_dir,
        lambda: evaluate(
            run.folder / "evaluate", dataset, minds, EvaluateSettings(free_decoding_sample=0), {"adapter": None}
        ),
    )
    attacked = pipeline.red_team(run, dataset, dataset)  # the minds come from no adapter
    return attacked, pipeline.gate(run, dataset, measured, attacked)


def test_what_one_challenger_broke_the_next_one_is_asked(
    found: Settings, dataset: Ref, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = Minded("weak", flips("tq"))
    minds: Minds = {"base": Minded, "champion": lambda: Minded("champion"), "challenger": lambda: weak}
    attacked, verdict = retrain("week 1", found, dataset, minds, monkeypatch)
    first = read_red_team(attacked)
    lost = first.roles["challenger"].metrics["trigger"]
    assert (first.planted, first.roles["challenger"].metrics["canary"].n) == (3, 12)
    assert len(list(found.regression_dir.glob("*.json"))) == lost.n - lost.k > 0
    lines = {line.metric: line for line in read_verdict(verdict).lines if line.skill == "red_team"}
    assert (lines["trigger"].n, lines["canary"].status) == (lost.n, "passed")
    assert lines["regression"].status == "not_applicable"
    told = tracker.record("week 1", "RUNNING")
    assert told.artifacts == [verdict.path] and told.tags["report"] == "gate/report.html"
    assert {point.name for point in told.points} >= {"red_team/challenger.trigger", "red_team/base.held"}

    other = found.model_copy(update={"red_team": found.red_team.model_copy(update={"seed": 8})})
    later, verdict = retrain("week 2", other, dataset, {**minds, "challenger": lambda: weak}, monkeypatch)
    asked = [probe for probe in read_probes(later) if probe.kind == "regression"]
    assert asked and {probe.variant for probe in asked} == {"trigger: the token tq"}
    assert read_red_team(later).roles["challenger"].metrics["regression"].k == 0
    lines = {line.metric: line for line in read_verdict(verdict).lines if line.skill == "red_team"}
    assert lines["regression"].status == "alarm"
