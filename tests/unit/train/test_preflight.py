"""The preflight: what it says of a machine that is fit, and that it tells all that is in the way at once."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from opstune.artifacts import Ref
from opstune.errors import ConfigError, DriverFault, IntegrityError, OpstuneError, OutsideError
from opstune.train import gpus, needs
from opstune.train.bases import base_revision
from opstune.train.needs import Sizes
from opstune.train.preflight import devices, preflight
from opstune.train.profiles import Profile

CPU = {"CUDA_VISIBLE_DEVICES": ""}

Look = Callable[..., list[str]]


@pytest.fixture
def look(tmp_path: Path, dataset: Ref, profile: Profile) -> Look:
    def at(**changes: Any) -> list[str]:
        asked = {"environment": CPU, "profile": profile, **changes}
        return preflight(tmp_path / "train", dataset, keep_checkpoints=2, **asked)

    return at


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program called nvidia-smi that says this, then ends as told."""

    def says(script: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return says


def test_it_tells_what_it_found_and_says_that_a_cpu_has_no_gpu_to_look_at(
    look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        told = look()
    assert [line.split(":")[0] for line in told] == ["dataset", "base", "disk", "memory", "GPU"]
    assert "every file is what its manifest says" in told[0] and "not pinned" in told[1]
    assert told[-1].endswith("none, this training runs on the CPU, so there is nothing to look at")
    assert all(f"preflight: {line}, ok" in caplog.messages for line in told)
    assert caplog.messages[-1].startswith("preflight: ok after ")


def test_all_that_is_in_the_way_is_told_at_once(look: Look, profile: Profile, dataset: Ref) -> None:
    file = dataset.path / "train.parquet"
    file.write_bytes(file.read_bytes() + b"x")
    small = {"disk_gb": 1e9, "memory_gb": 1e9}
    broken = profile.model_copy(update={"base": "/no/such/base", "needs": profile.needs.model_copy(update=small)})
    with pytest.raises(IntegrityError) as raised:
        look(profile=broken)
    text = str(raised.value)
    assert text.startswith("4 things are in the way of this training: 1. ")
    for words in ("train.parquet changed", "/no/such/base", "the disk has", "this machine has"):
        assert words in text
    assert "4. Train on a larger machine" in raised.value.todo


def test_several_faults_may_be_tried_again_only_if_each_may(look: Look, profile: Profile) -> None:
    full = {"disk_gb": 1e9, "memory_gb": psutil.virtual_memory().total / 1e9 - 0.01}
    with pytest.raises(OutsideError) as raised:
        look(profile=profile.model_copy(update={"needs": profile.needs.model_copy(update=full)}))
    assert raised.value.retryable and "2 things" in raised.value.what and "are free" in raised.value.what


def test_elsewhere_neither_memory_nor_gpus_of_this_machine_count(look: Look, profile: Profile) -> None:
    large = profile.needs.model_copy(update={"memory_gb": 1e9})
    told = look(profile=profile.model_copy(update={"needs": large}), here=False)
    assert told[-1] == "memory, GPU: not looked at, the trainer runs elsewhere"


HUB = "models--owner--name"


@pytest.mark.parametrize("asked", ["abc", "def", None])
def test_the_base_is_of_the_revision_that_is_pinned(
    tmp_path: Path, base: Path, look: Look, profile: Profile, monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    cache = tmp_path / "hub"
    (cache / HUB / "refs").mkdir(parents=True)
    (cache / HUB / "refs" / "main").write_text("abc")
    (cache / HUB / "snapshots").mkdir()
    (cache / HUB / "snapshots" / "abc").symlink_to(base)
    for module in ("constants", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HF_HUB_CACHE", str(cache), raising=False)
    pinned = profile.model_copy(update={"base": "owner/name", "revision": asked})
    if asked == "def":
        with pytest.raises(ConfigError, match=r"in revision def; here are abc.*hf download owner/name --revision def"):
            look(profile=pinned)
    else:
        words = "as asked" if asked else "whatever was fetched last: pin it in the profile"
        assert f"in revision abc ({words})" in look(profile=pinned)[1]
        assert base_revision(pinned) == "abc"


ROW = "0, GPU-11, H200, 580.10, {free}, 143771"


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (f'echo "{ROW.format(free=143000)}"', None, "H200, driver 580.10"),
        (f'echo "{ROW.format(free="[N/A]")}"', None, "does not say what memory is free"),
        (f'echo "{ROW.format(free=700)}"', OutsideError, r"0\.7 of 150\.8 GB free, and at least 2\.0 GB"),
        ('echo "0, GPU-11, T4, 580.10, 900, 1000"', ConfigError, "and at least"),
        ('echo "1, GPU-22, H200, 580.10, 143000, 143771"', DriverFault, "does not show GPU 0, only 1"),
        ('echo "Unable to determine the device handle"; exit 255', DriverFault, "exit code 255: Unable to determine"),
        ("exit 0", DriverFault, "does not show GPU 0, only none"),
    ],
)
def test_a_gpu_that_is_not_fit_is_told_before_anything_opens_it(
    look: Look,
    profile: Profile,
    driver: Callable[[str], None],
    script: str,
    kind: type[OpstuneError] | None,
    words: str,
) -> None:
    driver(script)
    asked = profile.model_copy(update={"needs": profile.needs.model_copy(update={"gpu_memory_gb": 2.0})})
    if kind is None:
        assert words in look(profile=asked, environment={"CUDA_VISIBLE_DEVICES": "0"})[-1]
    else:
        with pytest.raises(kind, match=words):
            look(profile=asked, environment={"CUDA_VISIBLE_DEVICES": "0"})


def test_without_nvidia_smi_it_says_that_the_gpus_were_not_looked_at(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look(environment={"CUDA_VISIBLE_DEVICES": "0,1"})[-1].startswith("GPU: 0, 1, not looked at")


@pytest.mark.parametrize(
    ("visible", "expected"), [("", []), ("-1", []), ("1,0", ["1", "0"]), ("GPU-1", ["GPU-1"]), (None, ["0", "1"])]
)
def test_the_gpus_are_those_that_the_child_sees(tmp_path: Path, visible: str | None, expected: list[str]) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    assert devices({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == expected


def test_a_gpu_answers_to_its_number_and_to_its_uuid() -> None:
    gpu = gpus.read(["3", "GPU-8f1a-22", "A100", "580", "10", "20"])
    assert [gpu.answers_to(name) for name in ("3", "GPU-8f1a", "GPU-9", "30")] == [True, True, False, False]


def weights(folder: Path, shapes: dict[str, list[int]]) -> Path:
    header = json.dumps({name: {"dtype": "F16", "shape": shape} for name, shape in shapes.items()}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


SHAPES = {
    "model.embed_tokens.weight": [1000, 10],
    "model.layers.0.q_proj.weight": [10, 30],
    "model.layers.1.q_proj.weight": [10, 30],
    "model.layers.1.up_proj.weight": [40, 10],
    "model.norm.weight": [10],
}


@pytest.mark.parametrize(
    ("method", "section", "learnt"),
    [
        ("lora", {"lora": {"rank": 2, "alpha": 4}}, 2 * (40 + 40 + 50)),
        ("qlora", {"lora": {"rank": 2, "alpha": 4, "target": ["q_proj"]}}, 2 * (40 + 40)),
        ("full", {}, 10_000 + 300 + 300 + 400 + 10),
        ("freeze", {"freeze": {"layers": 1}}, 300 + 400),
    ],
)
def test_parameters_are_counted_without_reading_the_weights(
    tmp_path: Path, profile: Profile, method: str, section: dict[str, Any], learnt: int
) -> None:
    values = {**profile.model_dump(), "lora": None, "freeze": None, "method": method, **section}
    assert needs.sizes(weights(tmp_path, SHAPES), Profile.model_validate(values)) == Sizes(11_010, learnt)


def test_the_needs_of_a_7b_are_derived_and_what_the_profile_says_is_the_floor(profile: Profile) -> None:
    size = Sizes(7_600_000_000, 40_000_000)
    qlora = profile.model_copy(update={"method": "qlora", "optimiser": "adamw_8bit"})
    assert 38e9 < needs.disk_bytes(size, qlora, 2) < 41e9
    halves = profile.model_copy(update={"precision": "auto"})
    assert 4.2e9 < needs.gpu_bytes(size, qlora) < 5e9 < 15e9 < needs.gpu_bytes(size, halves) < 16e9
    assert 30e9 < needs.gpu_bytes(size, halves.model_copy(update={"precision": "float32"})) < 32e9
    assert needs.host_bytes(size, qlora, cpu=False) == 0.1e9
    assert needs.host_bytes(size, qlora, cpu=True) > 30e9
    full = halves.model_copy(update={"method": "full", "lora": None})
    assert needs.gpu_bytes(Sizes(1_000, 1_000), full) - profile.needs.gpu_memory_gb * 1e9 == 16_000
    floor = profile.needs.model_copy(update={"disk_gb": 99.0, "gpu_memory_gb": 24.0})
    asked = qlora.model_copy(update={"needs": floor})
    assert (needs.disk_bytes(size, asked, 2), needs.gpu_bytes(size, asked)) == (99e9, 24e9)


def test_a_containers_limit_counts_where_it_allows_less_than_the_machine_has(tmp_path: Path) -> None:
    assert needs.host_memory(tmp_path) == pytest.approx(needs.host_memory(tmp_path / "none"), rel=0.1)
    for name, text in {"max": "1000", "current": "700", "stat": "anon 1\ninactive_file 200"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert needs.host_memory(tmp_path) == (500, 1000)
    (tmp_path / "memory.max").write_text("max")
    assert needs.host_memory(tmp_path)[1] == psutil.virtual_memory().total
