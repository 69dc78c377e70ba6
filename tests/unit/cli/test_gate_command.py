"""`opstune gate` as CI reads it: 0, 1 and 2 are verdicts, and nothing that breaks ends with one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from opstune import artifacts, cli, pipeline, settings
from opstune.artifacts import Ref
from opstune.evaluate import Verdict
from opstune.security import signing

Harm = Callable[[Ref], None]
TOLD = {"promote": "Promoted", "reject": "Rejected", "insufficient_data": "Cannot say"}


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["opstune", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def build(folder: Path, kind: str, inputs: dict[str, Ref | None]) -> Ref:
    def fill(out: Path) -> dict[str, float]:
        (out / "content").write_text(kind)
        return {}

    ref = artifacts.build(folder, kind, inputs, {}, fill)
    signing.sign(folder, settings.load().keys_dir)
    return ref


@pytest.fixture
def evaluation(own_home: Path) -> Ref:
    dataset = build(own_home / "dataset", "dataset", {})
    return build(own_home / "evaluation", "evaluation", {"dataset": dataset})


@pytest.mark.parametrize(("decision", "code"), [("promote", 0), ("reject", 1), ("insufficient_data", 2)])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_verdict_is_told_by_the_exit_code(
    evaluation: Ref,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    decision: str,
    code: int,
    words: Sequence[str],
) -> None:
    verdict = Verdict.model_validate({"verdict": decision, "sentence": TOLD[decision], "lines": []})
    asked: list[Ref] = []

    def gate(_: object, dataset: Ref, judged: Ref) -> Ref:
        asked.extend((dataset, judged))
        return judged

    monkeypatch.setattr(pipeline, "gate", gate)
    monkeypatch.setattr(pipeline, "read_verdict", lambda _: verdict)
    assert run(monkeypatch, "gate", str(evaluation.path), *words) == code
    assert [ref.kind for ref in asked] == ["dataset", "evaluation"]
    assert TOLD[decision] in capsys.readouterr().out


def change(evaluation: Ref) -> None:
    (evaluation.path / "content").write_text("changed")


def unsign(evaluation: Ref) -> None:
    (evaluation.path / "manifest.sig").unlink()


@pytest.mark.parametrize(("harm", "told"), [(change, "content changed"), (unsign, "manifest.sig is missing")])
def test_a_broken_evaluation_is_neither_a_rejection_nor_a_doubt(
    evaluation: Ref, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], harm: Harm, told: str
) -> None:
    harm(evaluation)
    assert run(monkeypatch, "gate", str(evaluation.path)) == cli.FAULT
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["gate"], cli.USAGE, "Missing argument"),
        (["gate", "report", "--dateset", "x"], cli.USAGE, "No such option"),
        (["gat", "report"], cli.USAGE, "No such command"),
        (["gate", "/nowhere"], cli.FAULT, "/nowhere/manifest.json is missing"),
    ],
)
def test_what_was_typed_wrong_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    assert run(monkeypatch, *words) == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [(ZeroDivisionError("a bug"), cli.BUG, "ZeroDivisionError: a bug"), (KeyboardInterrupt(), cli.STOPPED, "")],
)
def test_a_bug_and_a_person_who_stops_it_are_no_verdict(
    evaluation: Ref,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    told: str,
) -> None:
    def gate(*_: object) -> Ref:
        raise raised

    monkeypatch.setattr(pipeline, "gate", gate)
    assert run(monkeypatch, "gate", str(evaluation.path)) == code
    assert told in capsys.readouterr().err
