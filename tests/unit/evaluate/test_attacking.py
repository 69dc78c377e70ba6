"""The red team within a retrain: both gates read it, and what a challenger broke is asked at the next one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attacked import Minded, said, write_split
from fake_engine import example
from test_red_team import flips

from opstune import artifacts, pipeline, settings
from opstune import dataset as datasets
from opstune.artifacts import Ref
from opstune.dataset import canaries
from opstune.engines.base import Case, Engine
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
    measured = measure(run, "evaluate", dataset, minds)
    attacked = pipeline.red_team(run, dataset, dataset)  # the minds come from no adapter
    return attacked, pipeline.gate(run, dataset, measured, attacked)


def measure(run: Run, stage: str, dataset: Ref, minds: Minds) -> Ref:
    folder, asked = run.folder / stage, EvaluateSettings(free_decoding_sample=0)
    keys = run.settings.keys_dir
    return signing.signed(folder, keys, lambda: evaluate(folder, dataset, minds, asked, {"adapter": None}))


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


def test_a_file_that_gives_way_where_the_tuned_model_held_is_not_shipped_and_the_next_one_is_asked(
    found: Settings, dataset: Ref, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    minds: Minds = {"base": Minded, "champion": lambda: Minded("champion"), "challenger": lambda: Minded("tuned")}
    attacked, verdict = retrain("week", found, dataset, minds, monkeypatch)
    secrets = {canary.subject: canary.secret for canary in datasets.canaries_of(dataset)}

    def tells(case: Case) -> str | None:
        return next((secret for subject, secret in secrets.items() if subject in said(case)), None)

    run, leaky = Run("week", "full", found), Minded("quantised", tells)
    monkeypatch.setattr(shipping, "_engine_shipped", lambda *_: {"challenger": lambda: leaky})
    tested = artifacts.open_ref(run.folder / "evaluate")
    shipped = measure(run, "evaluate_shipped", dataset, {"challenger": lambda: leaky})
    of_file = pipeline.red_team_shipped(run, dataset, dataset)
    judged = pipeline.gate_shipped(run, dataset, shipped, of_file, tested, attacked)

    before, after = (
        next(line for line in read_verdict(ref).lines if (line.skill, line.metric) == ("red_team", "canary"))
        for ref in (verdict, judged)
    )
    assert (before.status, before.value, after.status, read_verdict(judged).verdict) == (
        "passed",
        1,
        "failed",
        "reject",
    )
    assert after.value is not None and after.value < 1 == after.base == after.champion
    assert {probe.id for probe in read_probes(of_file)} == {probe.id for probe in read_probes(attacked)}
    assert "The file that ships was attacked itself" in (judged.path / "report.html").read_text()
    kept = [json.loads(file.read_text())["probe"]["variant"] for file in found.regression_dir.glob("*.json")]
    assert kept and all(variant.startswith("canary: ") for variant in kept)
    assert not any(secret in file.read_text() for secret in secrets.values() for file in judged.path.iterdir())
    told = {point.name for point in tracker.record("week", "RUNNING").points}
    assert {"red_team/challenger.canary", "red_team_shipped/challenger.canary"} <= told
