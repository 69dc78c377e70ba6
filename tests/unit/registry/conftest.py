"""A run's sealed folders, as small as they can be, and one MLflow database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stages import MakeRun, Refs

from opstune import artifacts
from opstune.registry import Registry
from opstune.registry.catalogue import Catalogue
from opstune.settings import RegistrySettings


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: MLflow takes seconds to make its tables."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def home(own_home: Path) -> Path:
    own_home.mkdir()
    return own_home


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    """A registered model of the test's own in the common database."""
    return RegistrySettings(model_name=tmp_path.name, experiment=tmp_path.name)


@pytest.fixture
def registry(home: Path, tracking_uri: str, settings: RegistrySettings) -> Registry:
    return Registry(tracking_uri, settings, home)


@pytest.fixture
def catalogue(tracking_uri: str, settings: RegistrySettings) -> Catalogue:
    return Catalogue(tracking_uri, settings)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Sealed stages, each made from the one before; ``say`` tells one run's bytes from another's."""

    def make(
        run_id: str, *, base: str = "b" * 64, verdict: str = "promote", measured: str = "gguf", say: str = ""
    ) -> Refs:
        folder = tmp_path / "runs" / run_id
        say = say or run_id
        refs: Refs = {}

        def stage(name: str, kind: str, inputs: list[str], files: dict[str, str]) -> None:
            def fill(out: Path) -> dict[str, float]:
                for file, content in files.items():
                    (out / file).write_text(content)
                return {"files": len(files)}

            refs[name] = artifacts.build(folder / name, kind, {key: refs[key] for key in inputs}, {"seed": 7}, fill)

        training = json.dumps({"base": "tiny-ops", "base_sha256": base, "curve": [{"step": 1, "loss": 2.0}]})
        stage(
            "dataset",
            "dataset",
            [],
            {"dataset.json": f'{{"train_ids": ["{say}"]}}', "card.html": "", "train.parquet": ""},
        )
        stage("adapter", "adapter", ["dataset"], {"adapter_model.safetensors": say, "training.json": training})
        stage("gguf", "gguf", ["adapter"], {"model.gguf": say, "Modelfile": "FROM", "chat_template.jinja": "{{ }}"})
        stage("evaluation", "evaluation", ["adapter", "dataset"], {"evaluation.json": "{}"})
        stage("verdict", "verdict", ["evaluation"], {"verdict.json": '{"verdict": "promote"}', "report.html": say})
        stage("shipped_evaluation", "evaluation", [measured, "dataset"], {"evaluation.json": "{}", "n": "1"})
        judged = json.dumps({"verdict": verdict})
        stage(
            "shipped_verdict", "verdict", ["shipped_evaluation"], {"verdict.json": judged, "report.html": say, "n": "1"}
        )
        return refs

    return make
