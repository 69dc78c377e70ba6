"""The whole cycle in plain Python on the CPU: two retrains of the made-up team, few steps, gates that let them through.

The numbers that a real training reaches are the demo's business; here every stage is real and small.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from opstune import pipeline, settings, tracking
from opstune.artifacts import verify
from opstune.errors import IntegrityError
from opstune.evaluate.red_team import read_red_team
from opstune.pipeline import Outcome, Run
from opstune.serve import ask, context_from_text
from opstune.settings import Settings
from opstune.simulate import write_history
from opstune.tables import read_examples

pytestmark = pytest.mark.e2e
SMALL = {
    "simulate": {"days": 6, "incidents_per_day": 8},
    "dataset": {"minimum": 100, "minimum_test": 1},
    "train": {"max_steps": 4, "checkpoint_steps": 2},
    "evaluate": {"free_decoding_sample": 8},
}


def _load(home: Path, **sections: Any) -> Settings:
    history = home / "history"
    urls = {"opstune_database": f"sqlite:///{history / 'oncall.db'}", "opstune_files": str(history)}
    connections = {name: {"url": url} for name, url in urls.items()}
    return settings.load({**SMALL, "home": home, "connections": connections, **sections})


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration with gates that anything passes: what a gate does is tested elsewhere."""
    folder = tmp_path_factory.mktemp("lax") / "config"
    shutil.copytree(settings.config_dir(), folder)
    gates = yaml.safe_load((folder / "gates.yaml").read_text())
    for line in gates["lines"]:
        line.update(kind="alarm")
    gates["lines"].append(
        {"skill": "all", "metric": "valid_json", "direction": "above", "threshold": 0.01, "minimum": 1}
    )
    (folder / "gates.yaml").write_text(yaml.safe_dump(gates))
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, lax: Path) -> Iterator[tuple[Run, Outcome]]:
    """A full retrain on the first days of history."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSTUNE_CONFIG", str(lax))
        loaded = _load(tmp_path_factory.mktemp("home"), export={"quantisation": "Q8_0", "parity_points": 100})
        write_history(loaded.home / "history", loaded.simulate)
        run = Run("first", "full", loaded)
        yield run, pipeline.retrain(run)


@pytest.fixture(scope="module")
def second(first: tuple[Run, Outcome]) -> tuple[Run, Outcome]:
    """The weekly retrain on the following week."""
    loaded = first[0].settings
    write_history(loaded.home / "history", loaded.simulate, weeks_after=1)
    run = Run("second", "incremental", loaded)
    return run, pipeline.retrain(run)


def test_the_first_full_retrain_is_1_0_0_and_champion(first: tuple[Run, Outcome]) -> None:
    run, outcome = first
    champion = run.registry.champion()
    assert outcome.version == "1.0.0"
    assert champion is not None and champion.version == "1.0.0"
    assert (outcome.refs["shipped_verdict"].path / "report.html").is_file()
    assert (outcome.refs["dataset"].path / "card.html").is_file()


def test_a_retrain_is_one_mlflow_run(first: tuple[Run, Outcome]) -> None:
    run, _ = first
    found = tracking.find(run.settings.tracking_uri, run.settings.registry.experiment, run.id)
    assert found is not None
    data = tracking.connect(run.settings.tracking_uri).get_run(found).data
    assert data.params["mode"] == "full"
    assert data.tags["dataset.sha256"] == first[1].refs["dataset"].sha256
    assert "train/loss" in data.metrics


def test_the_same_run_again_does_no_work_twice(first: tuple[Run, Outcome]) -> None:
    run, outcome = first
    before = {name: (ref.path / "manifest.json").stat().st_mtime_ns for name, ref in outcome.refs.items()}
    again = pipeline.retrain(run)
    assert again.version == "1.0.0"
    assert {name: (ref.path / "manifest.json").stat().st_mtime_ns for name, ref in again.refs.items()} == before


def test_the_champion_answers_with_nothing_that_the_alert_does_not_name(first: tuple[Run, Outcome]) -> None:
    champion = first[0].registry.champion()
    assert champion is not None
    context = context_from_text("remediation", '{"alert":"PodOutOfRotation","labels":{"namespace":"n-1","pod":"p-1"}}')
    answer = ask(champion.folder, "remediation", context, first[0].settings.serve)
    assert answer.parsed is not None
    assert set(answer.parsed["parameters"].values()) <= {"n-1", "p-1"}


def test_the_weekly_retrain_goes_on_from_the_champion(second: tuple[Run, Outcome]) -> None:
    run, outcome = second
    assert outcome.version == "1.0.1"
    version = run.registry.show("1.0.1")
    assert (version.parent, version.mode) == ("1.0.0", "incremental")
    assert outcome.refs["dataset"].counts["new"] > 0


def test_what_was_in_test_stays_in_test(first: tuple[Run, Outcome], second: tuple[Run, Outcome]) -> None:
    def ids(outcome: Outcome, split: str) -> set[str]:
        return {example.id for example in read_examples(outcome.refs["dataset"].path / f"{split}.parquet")}

    assert ids(first[1], "test") <= ids(second[1], "test")
    assert not ids(second[1], "test") & (ids(first[1], "train") | ids(second[1], "train"))


def test_every_model_was_attacked_and_both_gates_know_what_held(
    first: tuple[Run, Outcome], second: tuple[Run, Outcome]
) -> None:
    assert first[1].refs["dataset"].counts["canaries"] == 3
    assert "canaries" not in second[1].refs["dataset"].counts  # it is trained further, and has seen them
    for (_, outcome), roles in ((first, {"base", "challenger"}), (second, {"base", "champion", "challenger"})):
        found = read_red_team(outcome.refs["red_team"])
        assert found.planted == 3
        assert set(found.roles) == roles
        for verdict in (outcome.refs["verdict"], outcome.refs["shipped_verdict"]):
            told = [line for line in pipeline.read_verdict(verdict).lines if line.skill == "red_team"]
            assert {line.metric: line.n for line in told}["canary"] == 12
        shipped = read_red_team(outcome.refs["shipped_red_team"])
        assert set(shipped.roles) == {"challenger"} and "model.gguf" in shipped.roles["challenger"].engine
    assert not (first[0].registry.show("1.0.0").folder / "red_team").exists()


def test_few_cases_are_no_verdict(first: tuple[Run, Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """The real gates on some thirty test cases: nobody can say, and it says how many more are needed."""
    monkeypatch.delenv("OPSTUNE_CONFIG")
    run, outcome = first
    own = Run("few", "full", run.settings)
    verdict = pipeline.read_verdict(pipeline.gate(own, outcome.refs["dataset"], outcome.refs["evaluation"]))
    assert verdict.verdict == "insufficient_data"
    assert any(line.more_cases for line in verdict.lines)


@pytest.mark.parametrize(
    ("made", "file", "stage"),
    [
        ("dataset", "test.parquet", "evaluate"),
        ("dataset", "train.parquet", "train"),
        ("adapter", "adapter_model.safetensors", "evaluate"),
        ("gguf", "model.gguf", "evaluate_shipped"),
    ],
)
def test_a_changed_byte_is_refused_by_the_next_stage(
    first: tuple[Run, Outcome], tmp_path: Path, made: str, file: str, stage: str
) -> None:
    run, outcome = first
    refs = dict(outcome.refs)
    copied = tmp_path / made
    shutil.copytree(refs[made].path, copied)
    refs[made] = refs[made].model_copy(update={"uri": copied.as_uri()})
    verify(refs[made])
    content = bytearray((copied / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / file).write_bytes(content)
    own = Run(f"tampered-{made}", "full", run.settings)
    stages = {
        "train": lambda: pipeline.run_training(own, refs["dataset"]),
        "evaluate": lambda: pipeline.evaluate(own, refs["dataset"], refs["adapter"]),
        "evaluate_shipped": lambda: pipeline.evaluate_shipped(own, refs["dataset"], refs["gguf"]),
    }
    with pytest.raises(IntegrityError, match=file):
        stages[stage]()
