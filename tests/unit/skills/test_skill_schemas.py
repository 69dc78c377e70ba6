"""Every skill's schema: both decoders compile it, and it lets the right answer through and an invented one not."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from llama_cpp import LlamaGrammar, llama_grammar, llama_sampler_init_grammar
from llguidance import LLTokenizer
from pydantic import ValidationError

from opstune.engines.decoding import Constraints
from opstune.settings import config_dir
from opstune.skills import SKILLS, get
from opstune.skills.base import target

TOPOLOGY = {"web-1": ["cart-2", 'q "x"'], "cart-2": ["db-4"]}
CODE = 'import os\n  password = "<secret:credential>"\n\tpath = r"C:\\temp"\nrun(f"x {path}")\n'
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "remediation": (
        {"alert": "Stuck", "labels": {"namespace": "shop", "pod": "cart-1"}},
        {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-1"}},
        {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-2"}},
    ),
    "triage": ({"title": "x"}, {"severity": "SEV-1", "root_cause": 'a "b"'}, {"severity": "SEV-9"}),
    "log_error": (
        {"log": "ERROR disk is full"},
        {"message": "disk is full", "category": "resource", "severity": "low", "confidence": "high"},
        {"message": "disk was full", "category": "resource", "severity": "low", "confidence": "high"},
    ),
    "diagnosis": (
        {"symptoms": ["slow"], "topology": TOPOLOGY},
        {
            "root_cause": "db-4 is full",
            "query": 'disk_free{service="db-4"}',
            "critical_paths": ["web-1 > cart-2 > db-4", 'web-1 > q "x"'],
            "remediation": ["expand it"],
        },
        {"root_cause": "db-4 is full", "critical_paths": ["web-1 > db-4"]},
    ),
    "audit": (
        {"actor": "user-1", "action": "grant"},
        {"risk": "high", "root_cause": "no approval", "actions": ["revoke it", "ask user-1"]},
        {"risk": "severe"},
    ),
    "code_review": (
        {"path": "a.py", "code": CODE},
        {
            "findings": [
                {"kind": "hard_coded_secret", "line": 'password = "<secret:credential>"', "advice": "move it"}
            ],
            "risk": "high",
        },
        {"findings": [{"kind": "hard_coded_secret", "line": "password = 'x'", "advice": ""}], "risk": "high"},
    ),
    "workflow": (
        {"failure": "hangs", "signals": {"Behind": "9 of 9"}, "manual_steps": ["restarted it"]},
        {
            "name": "restart",
            "trigger": "Behind",
            "steps": [{"function": "restart_consumer", "when": ""}],
            "rollback": {"function": "page", "when": "it fails"},
        },
        {
            "name": "restart",
            "trigger": "Behind",
            "steps": [{"function": "reboot_universe", "when": ""}],
            "rollback": {"function": "page", "when": "it fails"},
        },
    ),
}


def accepted(skill: str, context: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether constrained decoding lets this answer through to its end, byte by byte."""
    tokenizer = LLTokenizer("byte")
    constraints = Constraints(tokenizer, tokenizer.vocab_size)
    constraint = constraints.start(skill, get(skill).schema(context))
    assert constraint is not None
    for byte in target(answer).encode():
        if not constraints.allowed([constraint])[0][byte]:
            return False
        constraint._matcher.consume_token(byte)
    return bool(constraint._matcher.is_accepting())


@pytest.mark.parametrize("skill", SKILLS)
def test_constrained_decoding_reaches_the_right_answer_and_no_invented_one(skill: str) -> None:
    context, right, invented = CASES[skill]
    assert accepted(skill, context, right)
    assert not accepted(skill, context, invented)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_schema_means_the_same_to_a_json_schema_validator(skill: str) -> None:
    context, right, invented = CASES[skill]
    schema = get(skill).schema(context)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(right)
    assert not jsonschema.Draft202012Validator(schema).is_valid(invented)


@pytest.mark.parametrize("skill", SKILLS)
def test_what_the_schema_allows_the_answer_model_reads(skill: str) -> None:
    _, right, _ = CASES[skill]
    model = get(skill).answer_model
    assert model.model_validate(right).model_dump(exclude_none=True).items() >= right.items()


@pytest.fixture
def llama_cpp_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As llama.cpp's own converter escapes literals; the copy in llama-cpp-python 0.3.36 forgets the backslash."""
    monkeypatch.setattr(llama_grammar, "GRAMMAR_LITERAL_ESCAPE_RE", re.compile(r'[\r\n"\\]'))
    monkeypatch.setitem(llama_grammar.GRAMMAR_LITERAL_ESCAPES, "\\", "\\\\")


def compiles(schema: dict[str, Any]) -> bool:
    grammar = LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)._grammar
    return bool(llama_sampler_init_grammar(None, grammar.encode(), b"root"))


@pytest.mark.usefixtures("llama_cpp_escapes")
@pytest.mark.parametrize("skill", SKILLS)
def test_llama_cpp_compiles_the_schema_to_a_grammar(skill: str) -> None:
    assert compiles(get(skill).schema(CASES[skill][0]))
    assert not compiles({"enum": []})


@pytest.mark.parametrize("line", yaml.safe_load((config_dir() / "gates.yaml").read_text())["lines"], ids=str)
def test_every_line_of_the_gates_names_something_that_is_scored(line: dict[str, Any]) -> None:
    if line["skill"] in ("all", "red_team"):  # what these have is checked where gates.yaml is read
        return
    skill, (_, right, _) = get(line["skill"]), CASES[line["skill"]]
    calm = {"function": "none", "parameters": {}}
    metrics = {"valid_json", *skill.score(right, right)}
    metrics |= set(skill.score(calm, calm)) if line["skill"] == "remediation" else set()
    assert line["metric"] in metrics


texts = st.text(max_size=12)
CONTEXTS = {
    "diagnosis": st.fixed_dictionaries(
        {"symptoms": st.lists(texts, min_size=1), "topology": st.dictionaries(texts, st.lists(texts, max_size=3))}
    ),
    "code_review": st.fixed_dictionaries({"code": st.text(max_size=60), "path": texts}),
    "workflow": st.fixed_dictionaries(
        {"failure": texts, "signals": st.dictionaries(texts, texts), "manual_steps": st.lists(texts)}
    ),
    "audit": st.fixed_dictionaries({"actor": texts, "action": texts, "details": st.dictionaries(texts, texts)}),
}


@pytest.mark.parametrize("name", CONTEXTS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_context_a_skill_accepts_it_can_show_and_decode(name: str, data: st.DataObject) -> None:
    skill, drawn = get(name), data.draw(CONTEXTS[name])
    try:
        context = skill.context_model.model_validate(drawn).model_dump()
    except ValidationError:
        reject()
    assert skill.render(context).startswith("task: ")
    tokenizer = LLTokenizer("byte")
    assert Constraints(tokenizer, tokenizer.vocab_size).start(name, skill.schema(context)) is not None
