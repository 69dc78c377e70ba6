from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from opstune.artifacts import sha256_file
from opstune.errors import ConfigError, IntegrityError
from opstune.train.profiles import Profile, base_folder, base_sha256, load_profile, profile_names


@pytest.mark.parametrize("name", ["tiny", "tiny-qlora", "qwen2-1.5b", "qwen2-7b", "llama-3-8b"])
def test_a_shipped_profile_is_sound(name: str) -> None:
    assert name in profile_names()
    profile = load_profile(name)
    assert profile.lora.target == "all-linear"
    assert profile.effective_batch == profile.batch_size * profile.accumulation


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


def test_a_missing_hub_base_tells_how_to_fetch_it(profile: Profile) -> None:
    absent = profile.model_copy(update={"base": "nobody/nothing", "revision": "abc"})
    with pytest.raises(ConfigError, match=r"hf download nobody/nothing --revision abc"):
        base_folder(absent)


def test_the_embedded_base_stands_in_the_repository() -> None:
    assert base_folder(load_profile("tiny")).parts[-2:] == ("models", "tiny-ops")


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
