"""A stage's folder is whole or absent, and one changed byte is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from opstune.artifacts import MANIFEST, Ref, build, find, open_ref, verify
from opstune.errors import IntegrityError


def _make(calls: list[Path], text: str = "one") -> Callable[[Path], dict[str, float]]:
    def make(folder: Path) -> dict[str, float]:
        calls.append(folder)
        (folder / "data").mkdir()
        (folder / "data" / "a.txt").write_text(text)
        return {"rows": 1}

    return make


@pytest.fixture
def ref(tmp_path: Path) -> Ref:
    return build(tmp_path / "stage", "thing", {}, {"seed": 1}, _make([]))


def test_a_stage_asked_again_for_the_same_returns_what_is_there(tmp_path: Path) -> None:
    calls: list[Path] = []
    first = build(tmp_path / "stage", "thing", {}, {"seed": 1}, _make(calls))
    again = build(tmp_path / "stage", "thing", {}, {"seed": 1}, _make(calls))
    assert (first, len(calls)) == (again, 1)


def test_other_settings_or_inputs_are_work_again(tmp_path: Path, ref: Ref) -> None:
    calls: list[Path] = []
    build(tmp_path / "stage", "thing", {}, {"seed": 2}, _make(calls))
    build(tmp_path / "stage", "thing", {"dataset": ref}, {"seed": 2}, _make(calls))
    assert len(calls) == 2


def test_the_same_content_has_the_same_ref_elsewhere(tmp_path: Path, ref: Ref) -> None:
    other = build(tmp_path / "elsewhere", "thing", {}, {"seed": 5}, _make([]))
    assert other.sha256 == ref.sha256


def test_a_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, float]:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("died")

    with pytest.raises(RuntimeError):
        build(tmp_path / "stage", "thing", {}, {}, fail)
    assert list(tmp_path.iterdir()) == []


def _flip(ref: Ref) -> str:
    path = ref.path / "data" / "a.txt"
    path.write_text("two")
    return "a.txt"


def _remove(ref: Ref) -> str:
    (ref.path / "data" / "a.txt").unlink()
    return "a.txt"


def _add(ref: Ref) -> str:
    (ref.path / "b.txt").write_text("new")
    return "b.txt"


def _rewrite_manifest(ref: Ref) -> str:
    path = ref.path / MANIFEST
    _flip(ref)
    again = ref.manifest
    build(ref.path.with_name("forged"), "thing", {}, {}, _make([], "two"))
    again["files"] = open_ref(ref.path.with_name("forged")).manifest["files"]
    path.write_text(json.dumps(again))
    return MANIFEST


@pytest.mark.parametrize("tamper", [_flip, _remove, _add, _rewrite_manifest])
def test_tampering_is_refused_and_the_file_named(ref: Ref, tamper: Callable[[Ref], str]) -> None:
    name = tamper(ref)
    with pytest.raises(IntegrityError, match=name):
        verify(ref)


def test_a_tampered_stage_is_not_reused(tmp_path: Path, ref: Ref) -> None:
    _flip(ref)
    with pytest.raises(IntegrityError, match=r"a\.txt"):
        build(tmp_path / "stage", "thing", {}, {"seed": 1}, _make([]))


def test_a_folder_without_manifest_is_not_a_stage(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    assert find(tmp_path / "stage") is None
    with pytest.raises(IntegrityError, match=MANIFEST):
        open_ref(tmp_path / "stage")


def test_a_ref_travels_as_plain_data(ref: Ref) -> None:
    assert Ref.model_validate(ref.model_dump()) == ref
