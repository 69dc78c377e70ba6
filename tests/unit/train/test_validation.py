"""The validation loss, the best checkpoint and stopping early: decided alike after a resume, with nothing disturbed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from child_place import Break, Told, facts, make_spec, same, weights
from pydantic import ValidationError
from safetensors.torch import load_file
from training_data import example
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from opstune.tables import write_examples
from opstune.train import validation
from opstune.train.backends import trl
from opstune.train.callbacks import SealCheckpoints
from opstune.train.examples import tokenise
from opstune.train.profiles import EarlyStopping, Profile
from opstune.train.spec import Spec

HELD_OUT = [example(number) for number in range(100, 107)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def validated(work: Path, base: Path, profile: Profile, **changes: Any) -> Spec:
    spec = make_spec(work, base, profile, **{"validate_every": 2, "validation": work / "validation.parquet", **changes})
    write_examples(work / "validation.parquet", HELD_OUT)
    return spec


COURSES = [
    ([], 2, 0.0, None, False),
    ([3.0, 2.0, 1.0], 1, 0.0, 3, False),
    ([1.0, 2.0], 2, 0.0, 1, False),
    ([1.0, 2.0, 1.5], 2, 0.0, 1, True),
    ([1.0, 2.0, 0.9, 1.0], 2, 0.0, 3, False),
    ([1.0, 0.95, 0.94], 2, 0.1, 3, True),  # lower, and not by enough: the lowest is the best all the same
    ([1.0, 1.0], 1, 0.0, 1, True),
]


@pytest.mark.parametrize(("losses", "patience", "gain", "best", "over"), COURSES)
def test_the_best_is_the_lowest_and_patience_counts_what_gains_too_little(
    losses: list[float], patience: int, gain: float, best: int | None, over: bool
) -> None:
    history: list[dict[str, Any]] = [{"step": 1, "loss": 0.1}]
    history += [{"step": step, "validation_loss": loss} for step, loss in enumerate(losses, 1)]
    found = validation.course(history, EarlyStopping(patience=patience, minimum_gain=gain))
    assert (found.best, found.over) == (best, over)
    assert validation.course(history, None).over is False


@pytest.mark.parametrize(("asked", "steps", "expected"), [(0.1, 300, 30), (0.1, 4, 1), (50.0, 300, 50), (1.0, 300, 1)])
def test_how_often_is_a_share_or_a_number_of_steps(asked: float, steps: int, expected: int) -> None:
    assert validation.every(asked, steps) == expected


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_evaluating_changes_nothing_of_the_training(method: str, tmp_path: Path, base: Path, profile: Profile) -> None:
    lora = profile.lora.model_copy(update={"dropout": 0.1}) if profile.lora else None
    plain = make_spec(tmp_path / "plain", base, profile, method=method, lora=lora)
    looked = validated(tmp_path / "looked", base, profile, method=method, lora=lora)
    for spec in (plain, looked):
        trl.run(spec, Told())
    for fact in ("curve", "tokens", "steps", "loss"):
        assert facts(plain)[fact] == facts(looked)[fact]
    points = facts(looked)["validation"]
    assert [point["step"] for point in points] == [2, 4, 6, 8, 10]
    assert facts(looked)["chosen_step"] == min(points, key=lambda point: point["loss"])["step"] == 10
    assert same(plain, looked)
    assert (facts(plain)["chosen_step"], facts(plain)["validation"]) == (10, [])
    assert facts(looked)["ended"] == facts(plain)["ended"] == "all 10 steps were made"


def test_the_validation_loss_is_that_of_plain_transformers(tmp_path: Path, base: Path, profile: Profile) -> None:
    """At a rate of nearly nothing the base itself is measured."""
    spec = validated(tmp_path / "work", base, profile, learning_rate=1e-12, max_steps=2)
    trl.run(spec, Told())
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    total, count = 0.0, 0
    for row in tokenise(HELD_OUT, AutoTokenizer.from_pretrained(base), 400).rows:
        loss = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        answered = len(row.ids) - row.answer
        total, count = total + loss.item() * answered, count + answered
    assert facts(spec)["validation"][-1]["loss"] == pytest.approx(total / count, rel=1e-5)


class Worsen(TrainerCallback):
    """Turns the learning around when a step begins: from then on the loss rises."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step >= self.step:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.neg_()


STOPPING = {"early_stopping": {"patience": 2}, "epochs": 8, "keep_checkpoints": 1}


def test_the_best_step_is_what_is_kept_and_patience_ends_it(tmp_path: Path, base: Path, profile: Profile) -> None:
    spec = validated(tmp_path / "work", base, profile, **STOPPING)
    kept: dict[str, torch.Tensor] = {}

    class Keep(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 12:
                kept.update(load_file(spec.checkpoints / "checkpoint-12" / "adapter_model.safetensors"))

    told = Told()
    trl.run(spec, told, [Worsen(12), Keep()])
    found = facts(spec)
    assert (found["chosen_step"], found["steps"]) == (12, 16)
    assert found["ended"] == "the validation loss did not fall any further in 2 evaluations"
    assert found["validation_loss"] == min(point["loss"] for point in found["validation"])
    assert [event["best"] for event in told if event["event"] == "validated"][-3:] == [12, 12, 12]
    assert kept.keys() == weights(spec).keys()
    assert all(torch.equal(kept[name], weights(spec)[name]) for name in kept)
    assert sorted(path.name for path in spec.checkpoints.iterdir()) == ["checkpoint-12", "checkpoint-16"]


@pytest.mark.parametrize("broken_at", [13, 15])
def test_a_resumed_training_stops_where_an_uninterrupted_one_does(
    broken_at: int, tmp_path: Path, base: Path, profile: Profile
) -> None:
    whole, broken = (validated(tmp_path / name, base, profile, **STOPPING) for name in ("whole", "broken"))
    trl.run(whole, Told(), [Worsen(12)])
    with pytest.raises(KeyError):
        trl.run(broken, Told(), [Worsen(12), Break(broken_at, KeyError("bug"))])
    trl.run(broken, Told(), [Worsen(12)])
    assert facts(broken)["resumed_from"] == broken_at - 1
    for fact in ("chosen_step", "steps", "ended", "validation", "curve", "tokens"):
        assert facts(whole)[fact] == facts(broken)[fact]
    assert same(whole, broken)


class BreakAtTheEnd(TrainerCallback):
    """Raises when the last checkpoint is saved and nothing else is done yet."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise KeyError("bug")


@pytest.mark.parametrize(
    ("changes", "steps", "callbacks"),
    [(STOPPING, 16, [Worsen(12)]), ({"max_steps": 3, "validate_every": None, "validation": None}, 3, [])],
)
def test_a_training_that_was_broken_after_its_last_step_makes_no_other(
    changes: dict[str, Any], steps: int, callbacks: list[Any], tmp_path: Path, base: Path, profile: Profile
) -> None:
    whole, broken = (validated(tmp_path / name, base, profile, **changes) for name in ("whole", "broken"))
    trl.run(whole, Told(), callbacks)
    with pytest.raises(KeyError):
        trl.run(broken, Told(), [*callbacks, BreakAtTheEnd()])
    trl.run(broken, Told(), callbacks)
    assert facts(broken)["steps"] == facts(whole)["steps"] == steps
    assert facts(broken)["tokens"] == facts(whole)["tokens"]
    assert same(whole, broken)


def test_a_best_checkpoint_that_is_damaged_gives_way_to_the_next(tmp_path: Path, base: Path, profile: Profile) -> None:
    spec = validated(tmp_path / "work", base, profile, **{**STOPPING, "keep_checkpoints": 9})

    class Damage(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            (spec.checkpoints / "checkpoint-12" / "optimizer.pt").unlink()

    trl.run(spec, Told(), [Worsen(12), Damage()])
    second = sorted(facts(spec)["validation"], key=lambda point: point["loss"])[1]["step"]
    assert facts(spec)["chosen_step"] == second != 12


def test_a_checkpoint_is_due_by_steps_or_by_the_clock_and_at_the_end(
    base: Path, profile: Profile, tmp_path: Path
) -> None:
    now = [0.0]
    spec = make_spec(tmp_path / "work", base, profile, checkpoint_steps=4, checkpoint_minutes=10)
    seal = SealCheckpoints(spec, Told(), clock=lambda: now[0])
    seal.on_train_begin(None, None, None)
    due = []
    for step in range(1, 12):
        now[0] += 150
        control = SimpleNamespace(should_save=False)
        seal.on_step_end(None, SimpleNamespace(global_step=step, max_steps=11), control)
        due += [step] if control.should_save else []
        if step in (4, 8):
            seal._saved_at = now[0]
    assert due == [4, 8, 11]
    by_clock = SealCheckpoints(spec.model_copy(update={"checkpoint_steps": None}), Told(), clock=lambda: now[0])
    by_clock.on_train_begin(None, None, None)
    due = []
    for step in range(1, 6):
        now[0] += 150
        control = SimpleNamespace(should_save=False)
        by_clock.on_step_end(None, SimpleNamespace(global_step=step, max_steps=11), control)
        due += [step] if control.should_save else []
    assert due == [4, 5]  # nobody saved at 4, so it is still due


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"early_stopping": {"patience": 2}}, "set validate_every"),
        ({"validate_every": 2.5}, "a whole number of steps"),
        ({"validate_every": 0.1, "backend": "llamafactory"}, "does not evaluate while it trains"),
    ],
)
def test_a_profile_that_cannot_be_validated_so_is_refused(
    profile: Profile, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Profile.model_validate({**profile.model_dump(), **changes})
    assert json.loads(profile.model_copy(update={"validate_every": 0.1}).model_dump_json())["validate_every"] == 0.1
