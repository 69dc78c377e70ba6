"""Adapter → merged model → GGUF → llama.cpp, with a model that was really taught."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from exported import greedy, open_gguf, run_export
from taught import TAUGHT, Taught, chat, examples, knowing, learn, load_base, seal, teach

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import ExportError, IntegrityError
from opstune.export import convert, read_facts
from opstune.export.gguf import check_template, check_tokens
from opstune.export.merge import answer_loss, tokens
from opstune.security import signing
from opstune.settings import ExportSettings
from opstune.skills.base import SYSTEM
from opstune.tables import write_examples

SETTINGS = ExportSettings(quantisation="Q8_0")


@pytest.fixture(scope="module")
def gguf(taught: Taught, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Ref:
    return convert(tmp_path_factory.mktemp("run") / "convert", taught.adapter, taught.base, SETTINGS, tools, SYSTEM)


@pytest.fixture(scope="module")
def llama(gguf: Ref) -> llama_cpp.Llama:
    return open_gguf(gguf.path / "model.gguf")


@pytest.fixture(scope="module")
def tokenizer(taught: Taught) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(taught.adapter.path)


@pytest.mark.parametrize("user", TAUGHT)
def test_the_gguf_answers_as_the_adapter_was_taught(llama: llama_cpp.Llama, tokenizer: Any, user: str) -> None:
    prompt = tokenizer.apply_chat_template(chat(user), add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(greedy(llama, prompt)) == TAUGHT[user] + "<|im_end|>"


def test_everything_that_ships_is_in_one_sealed_folder(gguf: Ref, taught: Taught) -> None:
    files = {file.name for file in gguf.path.iterdir()}
    assert files == {
        "model.gguf",
        "Modelfile",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "export.json",
        "manifest.json",
    }
    assert (gguf.path / "tokenizer.json").read_bytes() == (taught.adapter.path / "tokenizer.json").read_bytes()
    assert gguf.counts["bytes"] == (gguf.path / "model.gguf").stat().st_size
    assert "num_ctx 512" in (gguf.path / "Modelfile").read_text()


def test_the_facts_name_what_ships_and_what_it_was_made_from(gguf: Ref, taught: Taught) -> None:
    facts = read_facts(gguf)
    assert (facts.quantisation, facts.family, facts.num_ctx) == ("Q8_0", "chatml", 512)
    assert (facts.merged_into, facts.choice, facts.lora) == ("original", None, False)
    assert facts.adapter_sha256 == taught.adapter.sha256
    assert facts.base_sha256 == artifacts.model_sha256(taught.base)
    assert facts.gguf_sha256 == gguf.manifest["files"]["model.gguf"]["sha256"] != facts.f16_sha256
    assert gguf.counts == facts.counts
    assert 0.3 < gguf.counts["size_reduction"] == round(1 - facts.bytes / facts.f16_bytes, 4) < 0.5  # 8.5 of 16 bits
    assert facts.base_bytes == (taught.base / "model.safetensors").stat().st_size


def test_the_same_adapter_is_not_converted_twice(gguf: Ref, taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr("subprocess.run", never)
    assert convert(gguf.path, taught.adapter, taught.base, SETTINGS, Path("no tools"), SYSTEM) == gguf


def test_another_base_than_the_one_trained_on_is_refused(taught: Taught, tmp_path: Path) -> None:
    other = tmp_path / "base"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(IntegrityError, match="not the base that the adapter was trained on"):
        convert(tmp_path / "out", taught.adapter, other, SETTINGS, tmp_path, SYSTEM)


def test_a_changed_adapter_is_refused_and_named(taught: Taught, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    artifacts.seal(adapter, "adapter", {}, {"inputs": {}})
    ref = artifacts.open_ref(adapter)
    (adapter / "adapter_model.safetensors").write_bytes(b"Weights")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors changed"):
        convert(tmp_path / "out", ref, taught.base, SETTINGS, tmp_path, SYSTEM)


def test_a_gguf_that_would_read_other_tokens_is_refused(gguf: Ref) -> None:
    with pytest.raises(ExportError, match="token 1 of a rendered chat is none in the GGUF and 5 in training"):
        check_tokens(gguf.path / "model.gguf", ["{"], [[90, 5]])


def test_a_gguf_with_another_chat_template_than_the_tokenizers_is_refused(gguf: Ref) -> None:
    with pytest.raises(ExportError, match="holds another chat template than the tokenizer"):
        check_template(gguf.path / "model.gguf", "{{ messages[0]['content'] }}")


def test_a_template_of_no_known_family_is_refused_in_words(taught: Taught, converter: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(taught.adapter.path, adapter)
    (adapter / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}|{% endfor %}")
    other = Taught(taught.base, seal(adapter, taught.base, "lora"))
    with pytest.raises(ExportError, match=r"of no known family.*Known: chatml, llama3, mistral, phi3, plain"):
        run_export(tmp_path, other, converter)


CHANGED = ["model.gguf", "chat_template.jinja", "Modelfile", "export.json"]


@pytest.mark.parametrize("name", CHANGED)
def test_a_file_that_changed_after_signing_is_refused_and_named(name: str, gguf: Ref, tmp_path: Path) -> None:
    """One flipped byte in the GGUF, one in the template: also where the manifest was written anew with their hashes."""
    folder, keys = tmp_path / "convert", tmp_path / "keys"
    shutil.copytree(gguf.path, folder)
    (folder / "manifest.json").unlink()

    def make() -> Ref:
        artifacts.seal(folder, "gguf", gguf.counts, {"inputs": {}, "asked": "x"})
        return artifacts.open_ref(folder)

    ref = signing.signed(folder, keys, make)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    for refuses in (artifacts.verify, lambda found: signing.check(found, keys)):
        with pytest.raises(IntegrityError, match=rf"{re.escape(name)} changed after it was written"):
            refuses(ref)
    (folder / "manifest.sig").rename(tmp_path / "manifest.sig")
    (folder / "manifest.json").unlink()
    forged = make()
    (tmp_path / "manifest.sig").rename(folder / "manifest.sig")
    with pytest.raises(IntegrityError, match=r"manifest\.json changed after it was signed"):
        signing.check(forged, keys)


def test_an_adapter_is_asked_for_where_whole_weights_were_trained(taught: Taught, tmp_path: Path) -> None:
    trained = tmp_path / "full"
    shutil.copytree(taught.base, trained)
    facts = {"base_sha256": artifacts.model_sha256(taught.base), "method": "full", "holds": "weights"}
    (trained / "training.json").write_text(json.dumps(facts))
    artifacts.seal(trained, "adapter", {}, {"inputs": {}, "asked": "x"})
    asked = ExportSettings(lora=True)
    with pytest.raises(ExportError, match="the method full leaves whole weights and no adapter"):
        convert(tmp_path / "out", artifacts.open_ref(trained), taught.base, asked, tmp_path, SYSTEM)


OPEN = [
    ({}, ("Q5_K_M", 2048)),
    ({"quantisation": "Q8_0"}, ("Q8_0", 2048)),
    ({"quantisation": "Q4_K_M", "num_ctx": 512}, ("Q4_K_M", 512)),
]


@pytest.mark.parametrize(("settings", "expected"), OPEN)
def test_what_the_settings_leave_open_is_as_the_profile_has_it(
    settings: dict[str, Any], expected: tuple[str, int]
) -> None:
    filled = ExportSettings(**settings).filled("Q5_K_M", 2048)
    assert (filled.quantisation, filled.num_ctx) == expected


@pytest.mark.parametrize(("learnt_on", "better"), [(True, "dequantised"), (False, "original")])
def test_a_4_bit_adapter_is_merged_into_the_base_on_which_it_answers_better(
    learnt_on: bool, better: str, taught: Taught, converter: Path, tmp_path: Path
) -> None:
    """One that learnt on the values in 4 bits does so there, one that learnt on the original ones on these."""
    from opstune.engines.weights import load_tokenizer

    shown = examples(3)
    base = knowing(taught.base, shown, tmp_path / "base")
    adapter = learn(load_base(base, nf4=learnt_on), load_tokenizer(base), shown, tmp_path / "adapter")
    trained = Taught(base, seal(adapter, base, "qlora"))
    validation = tmp_path / "validation.parquet"
    write_examples(validation, shown)
    chosen = run_export(tmp_path / "chosen", trained, converter, nf4=True, validation=validation, merge_rows=2).result
    assert chosen.choice and chosen.merged_into == chosen.choice.better == better
    assert chosen.choice.examples == 2
    # What ships is that merge: the same file as where nothing is chosen.
    alone = run_export(tmp_path / "alone", trained, converter, nf4=better == "dequantised").result
    assert (alone.merged_into, alone.choice) == (better, None)
    assert alone.f16_sha256 == chosen.f16_sha256


def test_both_losses_of_a_4_bit_adapter_stand_in_the_facts_the_counts_and_the_log(
    taught: Taught, tools: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(taught.adapter.path, adapter)
    for name in ("manifest.json", "training.json"):
        (adapter / name).unlink()
    learnt_from = tmp_path / "dataset"
    learnt_from.mkdir()
    write_examples(learnt_from / "validation.parquet", examples(6))
    artifacts.seal(learnt_from, "dataset", {}, {"inputs": {}, "asked": "made in a test"})
    made = seal(adapter, taught.base, "qlora"), taught.base
    settings = ExportSettings(quantisation="Q8_0", merge_rows=4)
    with caplog.at_level("INFO"):
        ref = convert(tmp_path / "gguf", *made, settings, tools, SYSTEM, artifacts.open_ref(learnt_from))
    facts = read_facts(ref)
    assert facts.choice is not None and facts.merged_into == facts.choice.better
    told = {name: value for name, value in ref.counts.items() if name.startswith("loss")}
    assert told == {
        "loss_dequantised": facts.choice.dequantised, "loss_original": facts.choice.original, "loss_rows": 4,
    }  # fmt: skip
    assert facts.choice.dequantised != facts.choice.original
    assert f"Merged into the {facts.merged_into} base: the loss over 4 validation examples" in caplog.text


def test_the_loss_is_that_of_the_answers_tokens_alone(taught: Taught) -> None:
    """Against transformers' own loss over the same labels."""
    import torch

    from opstune.engines.weights import load_tokenizer

    network, tokenizer, shown = load_base(taught.base, nf4=False), load_tokenizer(taught.base), examples(3)
    total, count = 0.0, 0
    for ids, answer in (tokens(tokenizer, example) for example in shown):
        assert ids[-1] == tokenizer.eos_token_id
        labels = torch.tensor([[-100] * answer + ids[answer:]])
        with torch.no_grad():
            total += float(network(input_ids=torch.tensor([ids]), labels=labels).loss) * (len(ids) - answer)
        count += len(ids) - answer
    assert answer_loss(network, tokenizer, shown) == pytest.approx(total / count, rel=1e-5)


def test_a_tokenizer_that_reads_otherwise_than_its_bases_is_refused(tmp_path: Path, converter: Path) -> None:
    """As every Yi adapter was, while transformers forgot `legacy` when it saved."""
    taught = teach(tmp_path, "yi")
    config = taught.adapter.path / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "legacy": False}))
    with pytest.raises(ExportError, match=r"the saved tokenizer reads a chat otherwise than its base's.*Train again"):
        run_export(tmp_path, taught, converter)


def test_an_nf4_adapter_is_merged_into_the_base_it_saw(taught: Taught, tmp_path: Path) -> None:
    """The dequantised base differs from the original by more than rounding, and the merge follows the former."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from safetensors.torch import load_file

    from opstune.export.merge import merge

    for nf4 in (False, True):
        merge(taught.base, taught.adapter.path, tmp_path / str(nf4), nf4)
    plain, seen = (load_file(tmp_path / str(nf4) / "model.safetensors") for nf4 in (False, True))
    original = load_file(taught.base / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    dequantised = dequantize_4bit(*quantize_4bit(original[name], quant_type="nf4", compress_statistics=True))
    learnt = plain[name] - original[name]
    torch.testing.assert_close(seen[name], dequantised + learnt, atol=1e-5, rtol=0)
    assert (seen[name] - plain[name]).abs().max() > 1e-3
    assert torch.equal(seen["model.embed_tokens.weight"], original["model.embed_tokens.weight"])
    assert json.loads((tmp_path / "True" / "config.json").read_text()).get("quantization_config") is None
