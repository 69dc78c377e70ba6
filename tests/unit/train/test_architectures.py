"""Every architecture that a profile names, tiny and random: it learns, resumes to the same bits, and merges."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from child_place import Break, Told, make_spec
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from opstune.engines.base import Case
from opstune.engines.hugging_face import HuggingFaceEngine
from opstune.engines.weights import nf4_config
from opstune.errors import ConfigError
from opstune.export.merge import merge
from opstune.train import fused, model
from opstune.train.backends import trl
from opstune.train.bases import base_folder
from opstune.train.chats import tokenizer_of
from opstune.train.preflight import parent_sha256
from opstune.train.profiles import Profile, load_profile, template_file
from opstune.train.spec import Spec

CASE = Case("remediation", {"alert": "PodCrashLooping", "labels": {"pod": "web-3", "namespace": "shop"}})
#: Rotary families share these; what makes each of them itself stands in its own row below.
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
}


@dataclass(frozen=True)
class Architecture:
    """A configuration without its vocabulary, and the template of a base whose tokenizer brings none."""

    config: Callable[..., PretrainedConfig]
    settings: dict[str, Any]
    template: str | None = None


ARCHITECTURES = {
    "llama": Architecture(LlamaConfig, {**SHAPE, "rope_theta": 5e5, "tie_word_embeddings": False}),
    "qwen2": Architecture(Qwen2Config, {**SHAPE, "tie_word_embeddings": True}),
    "qwen3": Architecture(Qwen3Config, {**SHAPE, "head_dim": 16, "tie_word_embeddings": True}),
    "mistral": Architecture(MistralConfig, {**SHAPE, "sliding_window": 64, "tie_word_embeddings": False}),
    "phi": Architecture(PhiConfig, {**SHAPE, "intermediate_size": 128, "num_key_value_heads": 4}, "plain"),
    "phi3": Architecture(Phi3Config, {**SHAPE, "partial_rotary_factor": 0.5, "tie_word_embeddings": False}),
    "yi": Architecture(LlamaConfig, {**SHAPE, "rope_theta": 5e6, "rms_norm_eps": 1e-6, "head_dim": 8}, "chatml"),
    "gpt2": Architecture(
        GPT2Config,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.15},
        "plain",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    gc.freeze()  # every training ends with a collection, which would walk over all that was imported
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    gc.unfreeze()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a random base, made when it is first asked for."""
    root = tmp_path_factory.mktemp("bases")

    def make(name: str) -> Path:
        folder, architecture = root / name, ARCHITECTURES[name]
        if folder.is_dir():
            return folder
        tokenizer = AutoTokenizer.from_pretrained(base_folder(load_profile("tiny")))
        if architecture.template:
            tokenizer.chat_template = tokenizer.pad_token = None
            tokenizer.eos_token = "<|endoftext|>"
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
        torch.manual_seed(0)
        config = architecture.config(vocab_size=len(tokenizer), **architecture.settings, **ids)
        AutoModelForCausalLM.from_config(config).half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


def spec_of(work: Path, base: Path, name: str, method: str, **changes: Any) -> Spec:
    sections = {"lora": {"rank": 8, "alpha": 16}} if "lora" in method else {}
    if method == "freeze":
        sections = {"freeze": {"layers": 1}}
    profile = Profile.model_validate(
        {
            "name": name, "base": str(base), "method": method, **sections, "epochs": 3, "learning_rate": 0.02,
            "schedule": "linear", "warmup": 0.1, "batch_size": 6, "max_length": 256, "optimiser": "adamw",
            "precision": "float32", "activation_checkpointing": name == "gpt2",
            "incremental": {"learning_rate_factor": 0.5, "epochs": 1},
            "needs": {"disk_gb": 0, "memory_gb": 0},
        }
    )  # fmt: skip
    template = ARCHITECTURES[name].template
    text = template_file(template).read_text() if template else None
    return make_spec(work, base, profile, **{"chat_template": text, "base_name": name, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    [file] = folder.glob("*.safetensors")
    return load_file(file)


def told(spec: Spec) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((spec.finished / "training.json").read_text())
    return facts


def resumed(tmp_path: Path, base: Path, name: str, method: str) -> Spec:
    """A training that ran through, after another of the same was broken off, resumed and found equal to the bit."""
    whole, broken = (spec_of(tmp_path / which, base, name, method) for which in ("whole", "broken"))
    trl.run(whole, Told())
    with pytest.raises(KeyError):
        trl.run(broken, Told(), [Break(5, KeyError("bug"))])
    trl.run(broken, Told())
    assert told(broken)["resumed_from"] == 4
    one, other = weights(whole.finished), weights(broken.finished)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert told(whole)["curve"] == told(broken)["curve"]
    losses = [point["loss"] for point in told(whole)["curve"]]
    assert losses[-1] < 0.8 * losses[0], losses
    return whole


def logits(network: Any, folder: Path) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(folder)("alert: PodCrashLooping of web-3", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found: torch.Tensor = network.eval()(input_ids=ids).logits.float()
    return found


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_learns_resumes_and_merges(
    name: str, method: str, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    base = bases(name)
    spec = resumed(tmp_path, base, name, method)
    assert told(spec)["holds"] == "adapter"
    learnt_with, saved = tokenizer_of(spec), AutoTokenizer.from_pretrained(spec.finished)
    assert (saved.chat_template, saved.eos_token) == (learnt_with.chat_template, learnt_with.eos_token)
    learnt = weights(spec.finished)
    assert {tensor.dtype for tensor in learnt.values()} == {torch.float32}
    assert not any("lm_head" in key or "embed" in key for key in learnt)

    asked: dict[str, Any] = {"quantization_config": nf4_config(torch.float32)} if method == "qlora" else {}
    seen = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **asked)
    model._keep_in_place(seen)  # on some processors bitsandbytes packs weights anew, and none as small as these
    trained = PeftModel.from_pretrained(seen, spec.finished)
    merged = merge(base, spec.finished, tmp_path / "merged", nf4=method == "qlora")
    network = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    expected = logits(trained, merged)
    # Rounding alone: (W + BA) x against W x + B (A x), in float32, of logits that spread over several units.
    torch.testing.assert_close(logits(network, merged), expected, rtol=0, atol=2e-3)
    with trained.disable_adapter():
        assert (logits(trained, merged) - expected).abs().max() > 0.1


@pytest.mark.parametrize("places", [[3, 8, 9, 21], []], ids=["some", "none"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_the_loss_does_not_read_may_be_left_out(
    name: str, places: list[int], bases: Callable[[str], Path]
) -> None:
    """The last block's MLP at the counted places, of two rows of 12, alone: the same loss there, and gradients.

    None count where a process has no share of the last step: it takes part in averaging with gradients of 0.
    """
    folder, counted = bases(name), torch.tensor(places, dtype=torch.long)

    def gradients(places: torch.Tensor | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        network = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)).double()
        fused.install(network)
        assert fused.only_where_counted(network, lambda: places)
        logits = network(input_ids=torch.arange(24).view(2, 12) + 40).logits.flatten(0, 1)[counted]
        logits.logsumexp(dim=-1).sum().backward()
        return {key: parameter.grad for key, parameter in network.named_parameters() if parameter.requires_grad}

    everywhere, there = gradients(None), gradients(counted)
    assert everywhere.keys() == there.keys()
    for key, gradient in everywhere.items():
        torch.testing.assert_close(there[key], gradient, rtol=1e-4, atol=1e-6, msg=lambda why, key=key: f"{key}: {why}")


@pytest.mark.parametrize("method", ["full", "freeze"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_whole_weights_learn_resume_and_need_no_merge(
    name: str, method: str, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    base = bases(name)
    spec = resumed(tmp_path, base, name, method)
    assert told(spec)["holds"] == "weights"
    assert merge(base, spec.finished, tmp_path / "merged", nf4=False) == spec.finished
    before, after = weights(base), weights(spec.finished)
    changed = {key for key in after if not torch.equal(after[key], before[key].float())}
    last = ".h.1." if name == "gpt2" else ".layers.1."
    assert changed == {key for key in after if method == "full" or last in key}
    for file in (file for file in spec.finished.iterdir() if file.suffix != ".safetensors"):
        assert str(base) not in file.read_text(), file.name


METHODS = ["lora", "qlora", "full", "freeze"]


@pytest.mark.parametrize("method", METHODS)
def test_a_parent_goes_on_learning_and_answers_in_the_engine(
    method: str, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    base = bases("gpt2")
    spec = spec_of(tmp_path / "first", base, "gpt2", method)
    trl.run(spec, Told())
    sha256 = parent_sha256(spec.finished)
    grown = spec_of(tmp_path / "grown", base, "gpt2", method, parent=spec.finished, parent_sha256=sha256, max_steps=2)
    trl.run(grown, Told())
    assert told(grown)["parent"] == sha256 != parent_sha256(grown.finished)
    first, last = (told(spec)["curve"][at]["loss"] for at in (0, -1))
    assert told(grown)["curve"][0]["loss"] < (first + last) / 2

    asked: dict[str, Any] = {"batch_size": 1, "max_new_tokens": 40, "threads": 1}
    [trained] = HuggingFaceEngine(base, spec.finished, **asked).answer([CASE], constrained=True)
    [plain] = HuggingFaceEngine(base, tokenizer=spec.finished, **asked).answer([CASE], constrained=True)
    assert trained.parsed is not None and plain.parsed is not None


ADAPTER, WEIGHTS = "adapter_config.json", "model.safetensors"
UNRELATED = [
    (ADAPTER, "0", "full", "the parent is an adapter, the profile llama trains whole weights.*Run a full retrain"),
    (WEIGHTS, "0", "lora", "the parent is whole weights, the profile llama trains an adapter.*Run a full retrain"),
    (ADAPTER, "1", "qlora", "the parent was trained on another base than llama"),
    (WEIGHTS, "1", "freeze", "the parent was trained on another base than llama"),
]


@pytest.mark.parametrize(("holds", "base_sha256", "method", "words"), UNRELATED)
def test_a_parent_that_cannot_go_on_learning_is_refused(
    holds: str, base_sha256: str, method: str, words: str, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / holds).write_text("{}")
    (parent / "training.json").write_text(json.dumps({"base_sha256": base_sha256}))
    with pytest.raises(ConfigError, match=words):
        trl.run(spec_of(tmp_path / "work", bases("llama"), "llama", method, parent=parent), Told())


UNFIT = [
    ({"max_length": 1024}, "max_length is 1024, and gpt2 has 512 positions"),
    ({"chat_template": None}, "gpt2 has no chat template.*`chat_template: plain`"),
    ({"freeze": {"layers": 3}}, "freeze.layers is 3, and gpt2 has 2 blocks"),
]


@pytest.mark.parametrize(("changes", "words"), UNFIT)
def test_a_profile_that_does_not_fit_its_base_is_told_before_training(
    changes: dict[str, Any], words: str, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    with pytest.raises(ConfigError, match=words):
        trl.run(spec_of(tmp_path / "work", bases("gpt2"), "gpt2", "freeze", **changes), Told())


def test_a_training_stops_at_the_token_that_its_template_ends_an_answer_with(
    tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    """Yi's own end of text is not ChatML's; GPT-2 with the plain template keeps its own."""
    ends = {}
    for name in ("yi", "gpt2"):
        before = AutoTokenizer.from_pretrained(bases(name))
        after = tokenizer_of(spec_of(tmp_path / name, bases(name), name, "lora"))
        ends[name] = (before.eos_token, after.eos_token)
        assert len(after) == len(before), "no token is added that an adapter would not train"
    assert ends == {"yi": ("<|endoftext|>", "<|im_end|>"), "gpt2": ("<|endoftext|>", "<|endoftext|>")}


def test_a_template_whose_tokens_the_base_lacks_is_refused(tmp_path: Path, bases: Callable[[str], Path]) -> None:
    template = template_file("chatml").read_text().replace("<|im_end|>", "<|end|>")
    with pytest.raises(ConfigError, match=r"ends an answer with '<\|end\|>', which gpt2 has no token for"):
        trl.run(spec_of(tmp_path / "work", bases("gpt2"), "gpt2", "lora", chat_template=template), Told())
