from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from opstune.artifacts import model_sha256, sha256_file
from opstune.errors import ConfigError, IntegrityError
from opstune.settings import config_dir, read_model
from opstune.train.bases import base_folder, base_sha256
from opstune.train.profiles import Profile, load_profile, profile_names, template_file

LARGE = {
    "qwen2-1.5b": "Qwen/Qwen2-1.5B-Instruct",
    "qwen2-7b": "Qwen/Qwen2-7B-Instruct",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B-Instruct",
    "mistral-7b": "mistralai/Mistral-7B-Instruct-v0.3",
    "phi": "microsoft/phi-2",
    "yi": "01-ai/Yi-1.5-6B-Chat",
    "gpt2-class": "microsoft/DialoGPT-small",
}


@pytest.mark.parametrize(("name", "base"), LARGE.items())
def test_a_shipped_profile_trains_as_asked(name: str, base: str) -> None:
    profile = load_profile(name)
    assert profile.base == base
    assert (profile.learning_rate, profile.epochs, profile.schedule, profile.warmup) == (2e-4, 3, "cosine", 0.1)
    assert (profile.batch_size, profile.accumulation, profile.optimiser) == (8, 4, "adamw_8bit")
    assert profile.activation_checkpointing and profile.max_length == (1024 if name == "gpt2-class" else 2048)
    assert profile.lora is not None and profile.lora.target == "all-linear"
    assert (profile.lora.rank, profile.lora.alpha) == ((8, 16) if name == "gpt2-class" else (16, 32))


HYPERPARAMETERS = {
    "rank", "alpha", "dropout", "target", "epochs", "learning_rate", "schedule", "warmup", "weight_decay",
    "max_grad_norm", "batch_size", "accumulation", "max_length", "optimiser", "activation_checkpointing", "packing",
    "validate_every", "early_stopping", "incremental",
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_beside_each_hyperparameter_stands_why(name: str) -> None:
    text = (config_dir() / "profiles" / f"{name}.yaml").read_text()
    reasons = dict(re.findall(r"^ *(\w+):.*?# (.+)$", text, re.MULTILINE))
    assert set(reasons) >= HYPERPARAMETERS


def test_every_profile_that_is_shipped_can_be_read() -> None:
    assert set(profile_names()) >= {"tiny", "tiny-qlora", *LARGE}
    for name in profile_names():
        load_profile(name)


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no profile 'tinny'.*tiny-qlora"):
        load_profile("tinny")


def test_all_faults_of_a_profile_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (Path(__file__).parents[3] / "include/config/profiles/tiny.yaml").read_text()
    bad = re.sub(r"rank: \d+", "rank: 0", good).replace("schedule: linear", "shedule: linear")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.yaml").write_text(bad)
    monkeypatch.setenv("OPSTUNE_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        load_profile("tiny")
    for part in ("lora.rank", "shedule: no such key", "schedule: field required"):
        assert part in str(caught.value)


CROSSED = [
    ({"lora": None}, ["lora: ", "method lora needs this section"]),
    ({"method": "full"}, ["lora: ", "method full has no use for this section"]),
    ({"method": "freeze", "lora": None}, ["freeze: ", "method freeze needs this section"]),
    ({"freeze": {"layers": 2}}, ["freeze: ", "method lora has no use for this section"]),
    ({"freeze": {"layers": 0}, "method": "freeze"}, ["freeze.layers", "lora: ", "method freeze has no use"]),
    ({"lora": {"rank": 4, "alpha": 8, "target": ["q_proj", "lm_head"]}}, ["lora.target", "lm_head is not possible"]),
    ({"revision": "abc"}, ["revision", "is a folder; pin base_sha256 instead"]),
    ({"warmup": 1.5}, ["warmup", "a whole number of steps"]),
    ({"chat_template": "chatmel"}, ["chat_template", "chatml, llama3, mistral, phi3, plain"]),
]


@pytest.mark.parametrize(("changes", "words"), CROSSED)
def test_keys_that_do_not_go_together_are_told_with_every_other_fault(
    changes: dict[str, Any], words: list[str], profile: Profile, tmp_path: Path
) -> None:
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({**profile.model_dump(mode="json"), **changes, "epochs": 0}))
    with pytest.raises(ConfigError) as caught:
        read_model(file, Profile)
    for part in (*words, "epochs: input should be greater than 0"):
        assert part in str(caught.value)


def test_a_template_is_read_when_the_profile_names_one(profile: Profile) -> None:
    assert profile.template is None
    named = profile.model_copy(update={"chat_template": "plain"})
    assert named.template == template_file("plain").read_text()


def test_a_base_with_pickled_weights_is_answered_with_how_to_make_safetensors(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ConfigError, match=r"holds no \.safetensors weights.*save_pretrained"):
        base_sha256(profile.model_copy(update={"base": str(tmp_path)}))


def test_a_missing_hub_base_tells_how_to_fetch_it(profile: Profile) -> None:
    absent = profile.model_copy(update={"base": "nobody/nothing", "revision": "abc"})
    with pytest.raises(ConfigError, match=r"hf download nobody/nothing --revision abc"):
        base_folder(absent)


def test_the_embedded_base_stands_in_the_repository() -> None:
    assert base_folder(load_profile("tiny")).parts[-2:] == ("models", "tiny-ops")


@pytest.mark.parametrize("name", ["tiny", "tiny-qlora"])
def test_the_embedded_base_is_the_one_that_its_profiles_pin(name: str) -> None:
    profile = load_profile(name)
    assert base_sha256(profile) == profile.base_sha256 == model_sha256(base_folder(profile))


def test_a_base_that_is_not_the_pinned_one_is_refused(profile: Profile) -> None:
    pinned = profile.model_copy(update={"base_sha256": base_sha256(profile)})
    assert base_sha256(pinned) == pinned.base_sha256
    with pytest.raises(IntegrityError, match="not the one that profile test pins"):
        base_sha256(profile.model_copy(update={"base_sha256": "0" * 64}))


def test_a_base_that_changed_after_its_manifest_is_refused_by_file(profile: Profile, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(name)
    files = {"config.json": {"sha256": sha256_file(folder / "config.json")}, "model.safetensors": {"sha256": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(IntegrityError, match=r"model\.safetensors changed"):
        base_sha256(profile.model_copy(update={"base": str(folder)}))


def test_the_recorded_name_of_a_base_holds_no_path_of_this_machine(profile: Profile) -> None:
    assert profile.base_name == "base"
    assert load_profile("qwen2-7b").base_name == "Qwen/Qwen2-7B-Instruct"
