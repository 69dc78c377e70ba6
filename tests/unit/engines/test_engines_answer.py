"""Both engines on a random model: whatever it wants to say, what comes out is valid, and both say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from opstune.engines.base import Answer, Case, Engine
from opstune.engines.hugging_face import HuggingFaceEngine
from opstune.engines.llama_cpp import LlamaCppEngine
from opstune.engines.prompts import chat
from opstune.errors import EvaluationError
from opstune.skills import get
from opstune.skills.base import closed_object

ODD = [
    'say "hi"',
    "back\\slash",
    "line\nbreak",
    "tab\there",
    "été",
    "e\u0301te\u0301",
    "日本",
    "🙂",
    "<|im_end|>",
    "\x7f",
    " x",
]


def alert(number: int, **labels: str) -> Case:
    text = " ".join(f"word{number * 7 + i}" for i in range(number % 5))
    return Case("remediation", {"alert": f"Alert{number}", "summary": text, "labels": labels})


CASES = [
    *(alert(i, namespace=f"team-{i}", pod=f"cart-{i}f", node=f"n{i}") for i in range(10)),
    alert(11, weird='a "quoted" pod'),
    alert(12),
    Case("triage", {"title": "checkout is slow", "service": "checkout"}),
    Case("log_error", {"log": '2026-01-02T03:04:05 ERROR KeyError: "pod"\n2026-01-02T03:04:06 INFO path C:\\temp\\x'}),
]


def hugging_face(base: Path, **changes: Any) -> HuggingFaceEngine:
    return HuggingFaceEngine(base, **{"batch_size": 4, "max_new_tokens": 120, "threads": 1, **changes})


def llama_cpp(gguf: Path, **changes: Any) -> LlamaCppEngine:
    return LlamaCppEngine(gguf, **{"context_tokens": 768, "max_new_tokens": 120, "threads": 1, **changes})


@pytest.fixture(scope="module", params=["hugging_face", "llama_cpp"])
def engine(request: pytest.FixtureRequest, base: Path, gguf: Path) -> Engine:
    return hugging_face(base) if request.param == "hugging_face" else llama_cpp(gguf)


@pytest.fixture(scope="module")
def answers(engine: Engine) -> list[Answer]:
    return engine.answer(CASES, constrained=True)


def test_an_invented_pod_is_impossible(answers: list[Answer]) -> None:
    for case, answer in zip(CASES, answers, strict=True):
        if case.skill == "remediation":
            assert answer.parsed is not None, answer.text
            assert set(answer.parsed["parameters"].values()) <= set(case.context["labels"].values())


def test_an_alert_without_labels_can_only_be_left_alone(answers: list[Answer]) -> None:
    assert answers[11].text == '{"function":"none","parameters":{}}'


def test_a_message_is_one_of_the_log_s_own_lines(answers: list[Answer]) -> None:
    assert answers[13].text.startswith(
        ('{"message":"KeyError: \\"pod\\"","category":', '{"message":"path C:\\\\temp\\\\x","')
    )


@pytest.mark.parametrize("value", ODD)
def test_any_label_can_be_answered_with(engine: Engine, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = closed_object({"k": {"enum": [value, f"{value}!"]}})
    monkeypatch.setattr(type(get("triage")), "schema", lambda self, context: schema)
    (answer,) = engine.answer([Case("triage", {"title": value})], constrained=True)
    assert json.loads(answer.text)["k"] in (value, f"{value}!")


def test_a_case_that_no_answer_fits_is_left_unanswered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = closed_object({"message": {"enum": []}})
    monkeypatch.setattr(type(get("log_error")), "schema", lambda self, context: schema)
    (answer,) = engine.answer([Case("log_error", {"log": "\n"})], constrained=True)
    assert (answer.text, answer.parsed) == ("", None)


def test_a_prompt_that_does_not_fit_is_left_unanswered_and_the_others_are_not(engine: Engine) -> None:
    answers = engine.answer([alert(1, pod="x" * 5000), alert(2, pod="y")], constrained=True)
    assert answers[0].parsed is None
    assert answers[1].parsed is not None


def test_a_faulty_schema_is_an_error_not_a_wrong_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get("triage")), "schema", lambda self, context: {"type": "nonsense"})
    with pytest.raises(EvaluationError, match="schema of triage cannot be compiled"):
        engine.answer([Case("triage", {"title": "x"})], constrained=True)


@pytest.mark.parametrize("constrained", [True, False])
def test_both_engines_say_the_same(base: Path, gguf: Path, constrained: bool) -> None:
    """All but a case or two: llama.cpp keeps keys and values in 16 bits, and a random model's choices are close."""
    tested = hugging_face(base, max_new_tokens=24).answer(CASES, constrained=constrained)
    shipped = llama_cpp(gguf, max_new_tokens=24).answer(CASES, constrained=constrained)
    same = sum(a.text == b.text for a, b in zip(tested, shipped, strict=True))
    assert same >= 0.85 * len(CASES)


def test_prompts_have_the_same_tokens_in_both_engines(base: Path, gguf: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = llama_cpp(gguf)._model()
    for case in [*CASES, *(Case("triage", {"title": value, "note": f"x {value}"}) for value in ODD)]:
        expected = tokenizer.apply_chat_template(chat(case), add_generation_prompt=True, return_dict=False)
        assert model.tokens(chat(case)) == expected


def test_what_ships_answers_a_case_alike_whatever_was_asked_before(gguf: Path) -> None:
    engine = llama_cpp(gguf, max_new_tokens=24)
    first = engine.answer(CASES, constrained=True)
    expected = [answer.text for answer in first]
    again = engine.answer(CASES[::-1], constrained=True, expected=expected[::-1])[::-1]
    alone = [llama_cpp(gguf, max_new_tokens=24).answer([case], constrained=True)[0] for case in CASES]
    assert [a.text for a in again] == [a.text for a in alone] == expected


@pytest.mark.parametrize("constrained", [True, False])
def test_a_case_is_answered_alike_alone_and_in_any_batch(base: Path, constrained: bool) -> None:
    alone = hugging_face(base, batch_size=1, max_new_tokens=40).answer(CASES, constrained=constrained)
    together = hugging_face(base, batch_size=64, max_new_tokens=40).answer(CASES, constrained=constrained)
    shared = hugging_face(base, batch_size=64, max_new_tokens=40, threads=3).answer(CASES, constrained=constrained)
    assert [a.text for a in alone] == [a.text for a in together] == [a.text for a in shared]


def test_an_expected_answer_is_a_draft_and_changes_no_answer(base: Path) -> None:
    """Whatever is expected: what the model says itself, the beginning of it, another case's answer, or no JSON."""
    engine = hugging_face(base, max_new_tokens=60)
    for constrained in (True, False):
        said = [a.text for a in engine.answer(CASES, constrained=constrained)]
        drafts = [said, [text[: len(text) // 2] + "x" for text in said], said[1:] + said[:1], ["nonsense"] * len(said)]
        for expected in drafts:
            drafted = engine.answer(CASES, constrained=constrained, expected=expected)
            assert [a.text for a in drafted] == said


def test_a_likelihood_is_what_transformers_says_of_prompt_and_answer(base: Path, gguf: Path) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    expected = ['{"function":"none","parameters":{}}', '{"severity":"SEV-1"}', "short"]
    cases = [CASES[11], CASES[12], CASES[3]]
    engines = (hugging_face(base), llama_cpp(gguf))
    told = [engine.answer(cases, constrained=c, expected=expected) for engine in engines for c in (True, False)]
    for index, (case, text) in enumerate(zip(cases, expected, strict=True)):
        close = [1e-4, 1e-4, 2e-2, 2e-2]  # llama.cpp keeps keys and values in 16 bits
        prompt = tokenizer.apply_chat_template(chat(case), add_generation_prompt=True, return_dict=False)
        ids = [*prompt, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        labels = [-100] * len(prompt) + ids[len(prompt) :]
        loss = network(torch.tensor([ids]), labels=torch.tensor([labels])).loss.item()
        for answers, within in zip(told, close, strict=True):
            found = answers[index].likelihood
            assert found is not None
            assert found.tokens == len(ids) - len(prompt)
            assert found.nll / found.tokens == pytest.approx(loss, rel=within)


def test_free_decoding_is_what_transformers_generates(base: Path) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    prompt = tokenizer.apply_chat_template(chat(CASES[3]), add_generation_prompt=True, return_tensors="pt")["input_ids"]
    generated = network.generate(prompt, do_sample=False, max_new_tokens=30)[0, prompt.shape[1] :]
    (answer,) = hugging_face(base, max_new_tokens=30).answer([CASES[3]], constrained=False)
    assert answer.text == tokenizer.decode(generated).removesuffix("<|im_end|>")


def test_an_adapter_changes_the_answers_and_the_name(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=1.0)
    network.save_pretrained(tmp_path / "adapter")
    plain, tuned = hugging_face(base), hugging_face(base, adapter=tmp_path / "adapter")
    assert tuned.name.startswith(f"{plain.name}+adapter@")
    assert [a.text for a in plain.answer(CASES, constrained=False)] != [
        a.text for a in tuned.answer(CASES, constrained=False)
    ]


def test_only_requests_answered_alone_have_a_latency(base: Path, gguf: Path) -> None:
    (batched,) = hugging_face(base).answer(CASES[:1], constrained=True)
    (single,) = llama_cpp(gguf).answer(CASES[:1], constrained=True)
    assert batched.seconds is None
    assert single.seconds is not None and single.seconds > 0


def test_progress_is_told_up_to_the_last_case(engine: Engine) -> None:
    told: list[tuple[int, int]] = []
    engine.answer(CASES, constrained=True, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(CASES), len(CASES))
    assert told == sorted(told)


def broken_hugging_face(folder: Path) -> Engine:
    (folder / "model.safetensors").write_bytes(b"not weights")
    (folder / "config.json").write_text("{}")
    return hugging_face(folder)


def broken_gguf(folder: Path) -> Engine:
    (folder / "model.gguf").write_bytes(b"not a model")
    return llama_cpp(folder / "model.gguf")


@pytest.mark.parametrize("make", [broken_hugging_face, broken_gguf])
def test_a_model_that_cannot_be_loaded_is_an_evaluation_error(make: Callable[[Path], Engine], tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="stopped answering"):
        make(tmp_path).answer(CASES, constrained=True)


@pytest.mark.parametrize(
    "make", [lambda folder: hugging_face(folder / "none"), lambda folder: llama_cpp(folder / "none.gguf")]
)
def test_a_model_that_is_not_there_is_an_evaluation_error(make: Callable[[Path], Engine], tmp_path: Path) -> None:
    with pytest.raises(EvaluationError):
        make(tmp_path)
