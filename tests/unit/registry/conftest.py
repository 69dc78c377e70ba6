"""A run's sealed folders as small as they can be, and an MLflow database that is made once and copied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opstune import artifacts, tracking
from opstune.artifacts import Ref
from opstune.registry import Registry
from opstune.settings import RegistrySettings

Refs = dict[str, Ref]
MakeRun = Callable[..., Refs]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables."""
    folder = tmp_path_factory.mktemp("mlflow")
    tracking.connect(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def home(own_home: Path, empty_database: Path) -> Iterator[Path]:
    own_home.mkdir()
    shutil.copy(empty_database, own_home / "mlflow.db")
    yield own_home
    tracking.connect.cache_clear()


@pytest.fixture
def tracking_uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture
def registry(home: Path, tracking_uri: str) -> Registry:
    return Registry(tracking_uri, RegistrySettings(), home)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Sealed stages, each made from the one before; ``say`` tells one run's bytes from another's."""

    def make(run_id: str, *, base: str = "b" * 64, verdict: str = "promote", measured: str = "gguf", say: str = "") -> Refs:
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
        stage("dataset", "dataset", [], {"dataset.json": f'{{"train_ids": ["{say}"]}}', "card.html": "", "train.parquet": ""})
        stage("adapter", "adapter", ["dataset"], {"adapter_model.safetensors": say, "training.json": training})
        stage("gguf", "gguf", ["adapter"], {"model.gguf": say, "Modelfile": "FROM", "chat_template.jinja": "{{ }}"})
        stage("evaluation", "evaluation", ["adapter", "dataset"], {"evaluation.json": "{}"})
        stage("verdict", "verdict", ["evaluation"], {"verdict.json": '{"verdict": "promote"}', "report.html": say})
        stage("shipped_evaluation", "evaluation", [measured, "dataset"], {"evaluation.json": "{}", "n": "1"})
        judged = json.dumps({"verdict": verdict})
        stage("shipped_verdict", "verdict", ["shipped_evaluation"], {"verdict.json": judged, "report.html": say, "n": "1"})
        return refs

    return make
