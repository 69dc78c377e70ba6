"""The embedded base model: whole, small, what its card says, and untaught in the demo's trade."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "include" / "models" / "tiny-ops"
SYSTEM = "You are an on-call assistant. Answer in JSON."
DEMO_TERMS = (
    "restart_pod", "scale_deployment", "rollback_deployment", "drain_node", "clear_cache", "increase_memory",
    "SEV-", "CrashLoop", "OOMKilled", "NodeNotReady", "HighErrorRate", "memory leak", "kubernetes",
)  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, imported as its scripts import each other: from their own folder."""
    names = ("lexicon", "words", "records", "texts", "worlds", "seasons", "tasks", "corpus")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(MODEL / "recipe"))
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path.remove(str(MODEL / "recipe"))
        for name in names:
            sys.modules.pop(name, None)
            if before[name] is not None:
                sys.modules[name] = before[name]


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(MODEL, local_files_only=True)


def demo_terms() -> list[str]:
    """The terms above, and every function name that the demo's own configuration declares."""
    declared = ROOT / "include" / "config" / "functions.yaml"
    names = (
        re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", _names(yaml.safe_load(declared.read_text()))) if declared.exists() else []
    )
    return [*DEMO_TERMS, *names]


def _names(node: object) -> str:
    """The keys and `name` values at the top of the function list, whichever way it is written."""
    if isinstance(node, dict) and isinstance(node.get("functions"), dict | list):
        node = node["functions"]
    if isinstance(node, dict):
        return " ".join(map(str, node))
    return (
        " ".join(str(item.get("name", "")) for item in node if isinstance(item, dict)) if isinstance(node, list) else ""
    )


def test_the_whole_model_is_under_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.suffix != ".pyc") < 10_000_000


def test_weights_are_those_the_card_names() -> None:
    digest = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (MODEL / "README.md").read_text()


def test_it_loads_offline_as_a_small_qwen2(tokenizer) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True, dtype=torch.float32)
    assert model.config.model_type == "qwen2"
    assert model.config.hidden_size % 256 == model.config.intermediate_size % 256 == 0  # k-quants need it
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings >= 1024
    assert model.config.tie_word_embeddings
    ids = torch.tensor([tokenizer("task: pick field")["input_ids"]])
    assert torch.isfinite(model(ids).logits).all()


def test_configuration_holds_no_local_path() -> None:
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        text = (MODEL / name).read_text()
        assert "_name_or_path" not in json.loads(text)
        assert not re.search(r'"/(?:work|home|tmp|root|mnt)', text)


def test_padding_is_not_the_end_of_a_turn(tokenizer) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_template_renders_chatml_without_a_default_system_message(tokenizer) -> None:
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "task: pick a\n  a: b-7f9c.x"},
        {"role": "assistant", "content": '{"a":"b-7f9c.x"}'},
    ]
    turns = [
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n",
        "<|im_start|>user\ntask: pick a\n  a: b-7f9c.x<|im_end|>\n",
    ]
    prompt = "".join(turns) + "<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True) == prompt
    assert tokenizer.apply_chat_template(messages, tokenize=False) == prompt + '{"a":"b-7f9c.x"}<|im_end|>\n'
    assert "system" not in tokenizer.apply_chat_template(messages[1:2], tokenize=False)


def test_rendered_text_and_ids_are_one(tokenizer) -> None:
    text = f'<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nh: ip-10-3\n  ü: "x"\t5Gi<|im_end|>\n'
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_prompt_and_answer_are_cut_apart_as_together(tokenizer) -> None:
    """TRL masks the prompt by its length in tokens: no token may straddle the border."""
    prompt, answer = f"<|im_start|>user\n{SYSTEM}<|im_end|>\n<|im_start|>assistant\n", '{"a":"b"}<|im_end|>\n'
    together = tokenizer(prompt + answer)["input_ids"]
    assert together == tokenizer(prompt)["input_ids"] + tokenizer(answer)["input_ids"]


@pytest.mark.parametrize(
    "name", ["checkout-api-7f9c4d-x2x9z", "ip-10-3-4-7", "db-orders-02", "zz/qq:v1.2.3", "PodThing"]
)
def test_a_name_is_cut_the_same_way_in_prompt_and_json(tokenizer, name: str) -> None:
    after_space = tokenizer(f"key: {name}\n")["input_ids"]
    after_quote = tokenizer('{"key":"' + name + '"}')["input_ids"]
    inner = tokenizer(name)["input_ids"]
    assert inner == after_space[-1 - len(inner) : -1] == after_quote[-1 - len(inner) : -1]


@pytest.mark.parametrize("chunk", [1, 40])
def test_the_corpus_follows_from_its_seed(recipe, chunk: int) -> None:
    corpus = recipe["corpus"]
    assert corpus.examples(3, chunk, 50) == corpus.examples(3, chunk, 50)
    assert corpus.examples(3, chunk, 50) != corpus.examples(3, chunk + 1, 50)
    assert corpus.examples(3, chunk, 50) != corpus.examples(4, chunk, 50)


def test_the_corpus_teaches_nothing_of_the_demo(recipe) -> None:
    """Of both rounds, and of every season: the form of a question is opstune's, what stands in it is invented."""
    corpus = recipe["corpus"]
    chunks = [0, *range(corpus.SEASONS_FROM, corpus.LAST_CHUNK + 1)]
    text = "\n".join(f"{user}\n{answer}" for c in chunks for user, answer in corpus.examples(0, c, 1000)).lower()
    assert not [term for term in demo_terms() if term.lower() in text]


def test_a_season_ends_and_another_trade_begins(recipe) -> None:
    corpus = recipe["corpus"]
    trades = [corpus.season(0, chunk) for chunk in range(corpus.SEASONS_FROM, corpus.LAST_CHUNK + 1)]
    assert [len(list(run)) for _, run in groupby(trades, id)] == [length for length, _ in corpus.SEASONS]
    assert not set(trades[0].causes) & set(trades[-1].causes)


def test_every_answer_of_the_corpus_is_compact_json(recipe) -> None:
    corpus, tasks = recipe["corpus"], recipe["tasks"]
    for _, answer in corpus.examples(7, 0, 400) + corpus.examples(7, corpus.LAST_CHUNK, 400):
        last = answer.rsplit("\n", 1)[-1]  # a talk of several turns ends with its last answer
        assert tasks.compact(json.loads(last)) == last
