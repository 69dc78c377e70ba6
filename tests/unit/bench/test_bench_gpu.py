"""The GPU script with the tiny shape, which is all that a machine without one can run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opstune.bench import gpu, shapes
from opstune.bench.gpu import Case
from opstune.bench.shapes import LLAMA_8B, QWEN2_7B, TINY
from opstune.train import machine
from opstune.train.machine import Machine

H200 = Machine(cuda=True, capability=(9, 0), bf16=True, flash_attn=False, triton=True)


def test_the_tiny_shape_goes_through_the_whole_script(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OUT", raising=False)
    if machine.look().cuda:
        pytest.skip("this machine has a GPU: python -m opstune.bench.gpu measures it")
    assert gpu.main(minutes=9) == 0
    rows = json.loads((own_home / "gpu.json").read_text())
    assert [row["name"] for row in rows] == [case.name for case in gpu.cases(machine.look())]
    assert all(row["value"] > 0 and row["peak_gb"] > 0 and row["n"] == 4 for row in rows)
    assert "figures of a GPU are owed" in capsys.readouterr().out


def test_what_does_not_fit_into_the_time_is_left_out_and_named(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(minutes=0) == 0
    assert capsys.readouterr().out.count("left out: the time is up") == len(list(gpu.cases(machine.look())))
    assert not (own_home / "gpu.json").exists()


def test_a_gpu_is_measured_with_what_was_promised() -> None:
    planned = list(gpu.cases(H200))
    assert planned[0] == Case(QWEN2_7B, "qlora", 8, False)  # the one with a bound comes first
    for method in ("qlora", "lora"):
        eights = [case for case in planned if case.shape is LLAMA_8B and case.method == method]
        assert {case.batch_size for case in eights} == {1, 2, 4, 8, 16}
        assert {case.packing for case in eights} == {False, True}
    assert {case.attention for case in planned if case.packing} == {"flex", "sdpa"}
    assert len({case.name for case in planned}) == len(planned)


@pytest.mark.parametrize(("checkpointing", "expected"), [(True, 20_500), (False, 30_800)])
def test_the_ceiling_is_the_one_that_was_derived(checkpointing: bool, expected: float) -> None:
    case = Case(LLAMA_8B, "lora", 8, False, checkpointing=checkpointing)
    assert gpu.ceiling(case, gpu.PEAKS["H200"]) == pytest.approx(expected, rel=0.01)


def test_random_models_are_as_large_as_their_names_say() -> None:
    assert shapes.parameters(LLAMA_8B) == pytest.approx(8.03e9, rel=0.001)
    assert shapes.parameters(QWEN2_7B) == pytest.approx(7.61e9, rel=0.001)


def test_examples_are_the_same_every_time_and_fit() -> None:
    rows = shapes.examples(50, TINY.vocabulary, 256)
    assert rows == shapes.examples(50, TINY.vocabulary, 256)
    assert all(8 <= len(row.ids) <= 256 and 0 < row.answer < len(row.ids) for row in rows)
