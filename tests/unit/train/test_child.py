"""The child's work in this process: what it trains, how it resumes, what stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from child_place import Break, Told, facts, make_spec, same, weights
from peft import PeftModel
from training_data import example
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from opstune.errors import ConfigError, Diverged
from opstune.train.backends import trl
from opstune.train.callbacks import Lookout
from opstune.train.profiles import Profile
from opstune.train.spec import Spec


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("method", "changes"),
    [("lora", {}), ("qlora", {}), ("lora", {"batch_size": 2, "accumulation": 2})],
    ids=["lora", "qlora", "lora in halves"],
)
def test_a_broken_training_resumes_to_the_same_bits(
    method: str, changes: dict[str, Any], tmp_path: Path, base: Path, profile: Profile
) -> None:
    whole = make_spec(tmp_path / "whole", base, profile, method=method, **changes)
    broken = make_spec(tmp_path / "broken", base, profile, method=method, **changes)
    told, again = Told(), Told()
    trl.run(whole, told)
    with pytest.raises(KeyError):
        trl.run(broken, told, [Break(7, KeyError("bug"))])  # in the second of two epochs of five steps
    trl.run(broken, again)
    assert again.steps("resumed") == [6]
    assert facts(broken)["resumed_from"] == 6
    assert same(whole, broken)
    for fact in ("curve", "tokens", "steps", "loss"):
        assert facts(whole)[fact] == facts(broken)[fact]
    assert {tensor.dtype for tensor in weights(broken).values()} == {torch.float32}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Spec:
    """A training of eight epochs, finished."""
    folder = tmp_path_factory.mktemp("taught")
    profile = Profile.model_validate(
        {
            "name": "test", "base": str(base), "method": "lora", "lora": {"rank": 4, "alpha": 8}, "epochs": 8,
            "learning_rate": 0.03, "schedule": "linear", "warmup": 0.1, "batch_size": 4, "max_length": 400,
            "optimiser": "adamw", "precision": "float32", "activation_checkpointing": False,
            "needs": {"disk_gb": 0, "memory_gb": 0},
            "incremental": {"learning_rate_factor": 0.5, "epochs": 1},
        }
    )  # fmt: skip
    spec = make_spec(folder / "work", base, profile)
    trl.run(spec, Told())
    return spec


def test_the_loss_falls(taught: Spec) -> None:
    losses = [point["loss"] for point in facts(taught)["curve"]]
    assert len(losses) == facts(taught)["steps"] == 40
    assert facts(taught)["loss"] < 0.5 * losses[0]


def test_the_adapter_loads_onto_its_base_and_learnt_the_answer(taught: Spec, base: Path) -> None:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), taught.finished)
    tokenizer = AutoTokenizer.from_pretrained(taught.finished)
    assert tokenizer.chat_template
    with model.disable_adapter():
        before = loss_of(model, tokenizer)
    assert loss_of(model, tokenizer) < 0.5 * before


def test_the_loss_is_that_of_plain_transformers_on_the_answers(taught: Spec, base: Path) -> None:
    """The first step's loss: nothing is learnt yet, so the base alone must say the same."""
    from opstune.train.batches import POOL, order
    from opstune.train.examples import tokenise

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = tokenise([example(n) for n in range(18)], AutoTokenizer.from_pretrained(base), 400).rows
    first = order([len(row.ids) for row in rows], 4, 7, 0, POOL)[:4]
    total, count = 0.0, 0
    for row in (rows[index] for index in first):
        loss = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        answered = len(row.ids) - row.answer
        total, count = total + loss.item() * answered, count + answered
    assert facts(taught)["curve"][0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_speed_and_memory_stand_beside_the_curve(taught: Spec) -> None:
    points = facts(taught)["progress"]
    assert [point["step"] for point in points] == [1, 40]  # the first and the last: it takes less than 100 seconds
    assert all(point["tokens_per_second"] > 0 and point["memory_mb"] > 0 for point in points)


def test_tokens_are_counted_without_padding(taught: Spec, base: Path) -> None:
    from opstune.train.examples import tokenise

    found = tokenise([example(n) for n in range(18)], AutoTokenizer.from_pretrained(base), 400)
    assert facts(taught)["tokens"] == 8 * found.tokens


def test_an_adapter_names_its_base_and_no_path(taught: Spec, base: Path) -> None:
    assert json.loads((taught.finished / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    for file in taught.finished.iterdir():
        assert str(base).encode() not in file.read_bytes(), file.name


def test_going_on_from_a_parent_begins_where_it_ended(
    taught: Spec, tmp_path: Path, base: Path, profile: Profile
) -> None:
    grown = make_spec(tmp_path / "grown", base, profile, parent=taught.finished, parent_sha256="f" * 64, max_steps=3)
    trl.run(grown, Told())
    assert facts(grown)["parent"] == "f" * 64
    assert facts(grown)["curve"][0]["loss"] == pytest.approx(facts(taught)["loss"], rel=0.5)
    assert not same(grown, taught)


def test_a_parent_of_another_shape_is_refused(taught: Spec, tmp_path: Path, base: Path, profile: Profile) -> None:
    lora = profile.lora.model_copy(update={"rank": 8})
    spec = make_spec(tmp_path / "other", base, profile, parent=taught.finished, lora=lora)
    with pytest.raises(ConfigError, match=r"rank 4 and alpha 8.*8 and 8"):
        trl.run(spec, Told())


def test_half_the_batch_and_twice_the_accumulation_makes_the_same_steps(
    tmp_path: Path, base: Path, profile: Profile
) -> None:
    whole = make_spec(tmp_path / "whole", base, profile, max_steps=4)
    halves = make_spec(tmp_path / "halves", base, profile, max_steps=4, batch_size=2, accumulation=2)
    for spec in (whole, halves):
        trl.run(spec, Told())
    assert facts(whole)["tokens"] == facts(halves)["tokens"]
    for one, other in zip(facts(whole)["curve"], facts(halves)["curve"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_loss_that_is_no_number_ends_it_before_it_is_saved(tmp_path: Path, base: Path, profile: Profile) -> None:
    class Poison(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 3:
                next(p for p in model.parameters() if p.requires_grad).data.fill_(float("nan"))

    spec = make_spec(tmp_path / "work", base, profile)
    told = Told()
    with pytest.raises(Diverged, match="the loss is nan"):
        trl.run(spec, told, [Poison()])
    assert told.steps("saved") == [2]
    assert not spec.finished.exists()


RISING = [1.0] * 10 + [4.0] * 20
SMALL = [0.02] * 10 + [0.5] * 30
NOISY = [1.0, 3.0] * 20


@pytest.mark.parametrize(
    ("losses", "runs_away"), [(RISING, True), (SMALL, False), (NOISY, False)], ids=["rising", "small", "noisy"]
)
def test_a_loss_runs_away_when_it_stays_high(losses: list[float], runs_away: bool) -> None:
    assert (look(Lookout(), losses) is not None) is runs_away


def look(lookout: Lookout, losses: list[float], before: int = 0) -> Diverged | None:
    for step, loss in enumerate(losses, before + 1):
        try:
            lookout.on_log(None, SimpleNamespace(global_step=step), None, {"loss": loss, "grad_norm": 1.0})
        except Diverged as error:
            return error
    return None


def test_what_is_saved_while_the_loss_rises_is_not_sound() -> None:
    assert (error := look(Lookout(), RISING)) and error.sound == 11  # the second of the high losses is half way up
    assert (error := look(Lookout(), [1.0] * 15 + [float("nan")])) and error.sound == 15


def test_a_resumed_lookout_knows_the_losses_before() -> None:
    resumed = Lookout()
    history = [{"loss": loss, "step": step} for step, loss in enumerate(RISING[:12], 1)]
    resumed.on_train_begin(None, SimpleNamespace(log_history=history), None)
    whole, rest = look(Lookout(), RISING), look(resumed, RISING[12:], before=12)
    assert whole and rest and (str(whole), whole.sound) == (str(rest), rest.sound)


class SpoilAfter(TrainerCallback):
    """Puts a NaN into the weights when a step's loss was already found good."""

    def on_log(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 4:
            next(p for p in model.parameters() if p.requires_grad).data[0, 0] = float("nan")


def test_a_checkpoint_of_weights_that_are_no_numbers_is_not_kept(tmp_path: Path, base: Path, profile: Profile) -> None:
    spec = make_spec(tmp_path / "work", base, profile)
    told = Told()
    with pytest.raises(Diverged, match=r"after step 4 .*lora_A.* no number"):
        trl.run(spec, told, [SpoilAfter()])
    assert told.steps("saved") == [2]
    assert [path.name for path in spec.work.rglob("checkpoint-*")] == ["checkpoint-2"]


def test_after_a_divergence_the_rest_of_the_schedule_is_halved(tmp_path: Path, base: Path, profile: Profile) -> None:
    whole, broken = (make_spec(tmp_path / name, base, profile) for name in ("whole", "broken"))
    trl.run(whole, Told())
    with pytest.raises(KeyError):
        trl.run(broken, Told(), [Break(5, KeyError("bug"))])
    halving = {"diverged_at": 5, "since": 4, "why": "the loss is nan"}
    halved = Spec.model_validate({**broken.model_dump(), "halvings": [halving]})
    told = Told()
    with pytest.raises(KeyError):
        trl.run(halved, told, [Break(7, KeyError("bug"))])
    trl.run(halved, told)  # from a checkpoint that was saved at the halved rate: not halved twice
    full, half = ([point["learning_rate"] for point in facts(spec)["curve"]] for spec in (whole, halved))
    assert half == [*full[:4], *(rate / 2 for rate in full[4:])]
    assert facts(halved)["settings"]["halvings"] == [halving]
    assert "From step 4 on at half the learning rate: at step 5 the loss is nan." in [
        note["text"] for note in told if note["event"] == "note"
    ]


def test_the_fused_layers_gradients_are_its_derivatives() -> None:
    from opstune.train.fused import _Lora

    shapes = {"x": (3, 7, 6), "weight": (5, 6), "bias": (5,), "down": (2, 6), "up": (5, 2)}
    made = {name: torch.randn(shape, dtype=torch.double) for name, shape in shapes.items()}
    learnt = [made[name].requires_grad_() for name in ("x", "down", "up")]
    for bias in (made["bias"], None):
        assert torch.autograd.gradcheck(lambda x, a, b, c=bias: _Lora.apply(x, made["weight"], c, a, b, 3.0), learnt)


def test_the_fused_layer_computes_what_peft_does() -> None:
    from peft import LoraConfig, get_peft_model

    from opstune.train import fused

    def build() -> tuple[Any, torch.Tensor]:
        torch.manual_seed(1)
        model = get_peft_model(
            torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4, bias=False)),
            LoraConfig(r=2, lora_alpha=6, target_modules=["0", "2"]),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
        return model, torch.randn(3, 7, 6)

    (plain, x), (quick, _) = build(), build()
    assert fused.install(quick) == 2
    for model in (plain, quick):
        model(x).square().sum().backward()
    torch.testing.assert_close(plain(x), quick(x))
    for (_, one), (_, other) in zip(plain.named_parameters(), quick.named_parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-3)


def loss_of(model: Any, tokenizer: Any) -> float:
    from opstune.train.examples import tokenise

    [row] = tokenise([example(3)], tokenizer, 400).rows
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss)
