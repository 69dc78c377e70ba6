"""A verdict proves something only under this home's signature: each way to forge one is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import IntegrityError
from opstune.evaluate import evaluate, gate, read_verdict
from opstune.examples import Example
from opstune.security import signing
from opstune.settings import EvaluateSettings

GATES = "lines: [{skill: all, metric: correct, direction: above, threshold: 0.75, minimum: 40}]\n"

Judge = Callable[..., Ref]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def judge(tmp_path: Path, dataset: Ref, examples: list[Example], settings: EvaluateSettings, keys: Path) -> Judge:
    """The signed verdict on a model of some quality, as the pipeline makes it."""
    gates = tmp_path / "gates.yaml"
    gates.write_text(GATES)

    def judged(name: str, right: float, own: Path = keys) -> Ref:
        opened = {"challenger": lambda: FakeEngine(name, examples, right=right)}
        evaluation = evaluate(tmp_path / f"{name}-evaluate", dataset, opened, settings, {})
        folder = tmp_path / name
        return signing.signed(folder, own, lambda: gate(folder, evaluation, gates, dataset=dataset))

    return judged


def forge(ref: Ref) -> None:
    """Turn a rejection into a promotion."""
    path = ref.path / "verdict.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "verdict": "promote", "sentence": "Promoted: all passed."}))


def seal_again(ref: Ref) -> Ref:
    """Write every hash anew, as whoever knows the format can."""
    old = ref.manifest
    (ref.path / "manifest.json").unlink()
    signature = (ref.path / "manifest.sig").read_bytes()
    (ref.path / "manifest.sig").unlink()
    artifacts.seal(
        ref.path,
        "verdict",
        {**old["counts"], "promote": 1.0},
        {key: old[key] for key in ("asked", "inputs", "settings")},
    )
    (ref.path / "manifest.sig").write_bytes(signature)
    return artifacts.open_ref(ref.path)


def test_a_verdict_as_the_gate_made_it_is_proof(judge: Judge, keys: Path) -> None:
    ref = judge("good", 0.98)
    assert read_verdict(signing.check(ref, keys)).verdict == "promote"
    assert judge("good", 0.98) == ref


def test_a_verdict_that_was_rewritten_is_refused_by_its_file(judge: Judge, keys: Path) -> None:
    ref = judge("bad", 0.5)
    assert read_verdict(ref).verdict == "reject"
    forge(ref)
    with pytest.raises(IntegrityError, match=r"verdict\.json changed"):
        signing.check(ref, keys)


def test_a_verdict_with_all_its_hashes_written_anew_is_refused(judge: Judge, keys: Path) -> None:
    ref = judge("bad", 0.5)
    forge(ref)
    forged = seal_again(ref)
    assert read_verdict(forged).verdict == "promote"
    assert artifacts.verify(forged) == forged
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        signing.check(forged, keys)


def test_the_gate_does_not_take_a_forged_verdict_for_its_own(judge: Judge) -> None:
    """A retry finds the folder made and hands it on: not before its signature was checked."""
    ref = judge("bad", 0.5)
    forge(ref)
    seal_again(ref)
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        judge("bad", 0.5)


def test_another_verdict_s_signature_is_refused(judge: Judge, keys: Path) -> None:
    good, bad = judge("good", 0.98), judge("bad", 0.5)
    forge(bad)
    forged = seal_again(bad)
    shutil.copy2(good.path / "manifest.sig", forged.path / "manifest.sig")
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        signing.check(forged, keys)


def test_another_key_s_verdict_is_refused(judge: Judge, keys: Path, tmp_path: Path) -> None:
    judge("good", 0.98)
    foreign = judge("foreign", 0.98, own=tmp_path / "other-keys")
    with pytest.raises(IntegrityError, match="not by this home's"):
        signing.check(foreign, keys)


@pytest.mark.parametrize("file", ["report.html", "report.json"])
def test_a_report_that_was_changed_is_refused_by_name(judge: Judge, keys: Path, file: str) -> None:
    ref = judge("good", 0.98)
    (ref.path / file).write_text((ref.path / file).read_text().replace("98", "99"))
    with pytest.raises(IntegrityError, match=file.replace(".", r"\.")):
        signing.check(ref, keys)
