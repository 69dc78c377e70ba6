"""The real LLaMA-Factory on the embedded base: it trains on our tokens, is killed, goes on, and its adapter is ours."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from needs import path
from safetensors.torch import load_file

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import TrainerFailed, TrainerKilled
from opstune.examples import Example, example_id
from opstune.export.merge import merge
from opstune.settings import TrainSettings
from opstune.tables import write_examples
from opstune.train import Trainer, base_folder, load_profile
from opstune.train.backends import llamafactory
from opstune.train.backends.llamafactory_files import DATASET, write_data
from opstune.train.profiles import Profile

#: As LLaMA-Factory itself makes rows of a dataset: what its trainer is given.
TOKENISE = """
import json, sys, yaml
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
model, data, training, _, _ = get_train_args(yaml.safe_load(open(sys.argv[1])))
module = load_tokenizer(model)
template = get_template_and_fix_tokenizer(module["tokenizer"], data)
rows = get_dataset(template, model, data, training, stage="sft", **module)["train_dataset"]
print("ROWS " + json.dumps([[row["input_ids"], row["labels"]] for row in rows]))
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Path:
    named = os.environ.get(llamafactory.ENVIRONMENT)
    found = path(
        Path(named) if named else Path(os.environ["OPSTUNE_TOOLS"]) / "llamafactory-venv",
        f"run .ci/llamafactory, or name the folder of an environment that has it in {llamafactory.ENVIRONMENT}.",
    )
    monkeypatch.setenv(llamafactory.ENVIRONMENT, str(found))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return found


@pytest.fixture
def profile() -> Profile:
    return load_profile("tiny").model_copy(update={"backend": "llamafactory", "epochs": 4.0})


@pytest.fixture
def dataset(tmp_path: Path) -> Ref:
    def make(partial: Path) -> dict[str, float]:
        return {"train": write_examples(partial / "train.parquet", examples())}

    return artifacts.build(tmp_path / "dataset", "dataset", {}, {}, make)


def examples() -> list[Example]:
    return [_example(number) for number in range(18)]


def _example(number: int) -> Example:
    values: dict[str, Any] = {
        "id": example_id("test", str(number), "remediation"), "skill": "remediation", "source": "test",
        "source_id": str(number), "group_id": str(number), "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "context": {"alert": "PodCrashLooping" + "!" * (number % 7), "labels": {"pod": f"web-{number}"}},
        "answer": {"function": "none", "parameters": {}},
    }  # fmt: skip
    return Example.model_validate(values)


def trainer(folder: Path, dataset: Ref, profile: Profile, **changes: Any) -> Trainer:
    return Trainer(folder, dataset, profile, TrainSettings(checkpoint_steps=2, progress_seconds=0.1, **changes))


def of_this_test() -> list[psutil.Process]:
    """The trainer and LLaMA-Factory, wherever they stand in the tree of processes."""
    found = [one for one in psutil.Process().children(recursive=True) if "opstune.train" in " ".join(one.cmdline())]
    return [*found, *(child for one in found for child in one.children(recursive=True))]


def test_its_rows_are_our_tokens(tmp_path: Path, environment: Path) -> None:
    from transformers import AutoTokenizer

    base = base_folder(load_profile("tiny"))
    written = write_data(tmp_path / "data", examples(), AutoTokenizer.from_pretrained(base), 1024)
    asked = {
        "stage": "sft", "do_train": True, "model_name_or_path": str(base), "dataset": DATASET,
        "dataset_dir": str(tmp_path / "data"), "template": "empty", "cutoff_len": 1024, "use_cpu": True,
        "output_dir": str(tmp_path / "out"), "report_to": "none",
    }  # fmt: skip
    config = tmp_path / "asked.yaml"
    config.write_text(json.dumps(asked))
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1", "PYTHONPATH": ""}
    command = [environment / "bin" / "python", "-c", TOKENISE, config]
    said = subprocess.run(command, env=offline, text=True, check=True, capture_output=True).stdout
    rows = json.loads(next(line for line in said.splitlines() if line.startswith("ROWS ")).removeprefix("ROWS "))
    assert rows == [[row.ids, row.labels] for row in written.rows]


def test_a_killed_training_leaves_nothing_behind_goes_on_and_ends_at_the_same_bits(
    tmp_path: Path, dataset: Ref, profile: Profile
) -> None:
    whole = trainer(tmp_path / "whole", dataset, profile).run()
    broken, killed = trainer(tmp_path / "broken", dataset, profile), []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            if list((broken.work / "checkpoints").glob("checkpoint-*")):
                killed.extend(of_this_test())
                killed[0].kill()  # ours alone: it ends LLaMA-Factory by being gone
                return

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrainerKilled, match="signal 9"):
        broken.run()
    over.set()
    killer.join()
    assert len(killed) > 1 and psutil.wait_procs(killed, timeout=20)[1] == []
    ref = trainer(tmp_path / "broken", dataset, profile).run()
    told = json.loads((ref.path / "training.json").read_text())
    assert told["resumed_from"] >= 2 and len(told["curve"]) == told["steps"] == 20
    one, other = (load_file(made.path / "adapter_model.safetensors") for made in (whole, ref))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_its_adapter_merges_as_ours_does(tmp_path: Path, dataset: Ref, profile: Profile) -> None:
    ref = trainer(tmp_path / "train", dataset, profile, max_steps=2).run()
    assert ref.kind == "adapter" and ref.counts["steps"] == 2
    config = json.loads((ref.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-ops"
    assert {tensor.dtype for tensor in load_file(ref.path / "adapter_model.safetensors").values()} == {torch.float32}
    merge(base_folder(profile), ref.path, tmp_path / "merged", nf4=False)
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_what_it_refuses_is_told_in_its_own_last_words(tmp_path: Path, dataset: Ref, profile: Profile) -> None:
    assert profile.lora
    wrong = profile.model_copy(update={"lora": profile.lora.model_copy(update={"target": ["no_such_module"]})})
    with pytest.raises(TrainerFailed, match="no_such_module"):
        trainer(tmp_path / "train", dataset, wrong).run()
