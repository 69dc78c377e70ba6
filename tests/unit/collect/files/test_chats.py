"""Conversations of other trainers: flat records, and our own exports read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from collecting import Place, write_lines
from pydantic import SecretStr

from opstune import skills
from opstune.collect import Quarantine, pull, source_names
from opstune.collect.files.chats import FORMS, fields_of
from opstune.dataset.formats import as_alpaca, as_messages, as_sharegpt
from opstune.examples import Example
from opstune.settings import CollectSettings, Connection, SimulateSettings
from opstune.simulate import write_history
from opstune.skills.base import SYSTEM, target
from opstune.store import ExampleStore

EXPORTED: dict[str, Callable[[Example], dict[str, Any]]] = {
    "messages": as_messages,
    "alpaca": as_alpaca,
    "sharegpt": as_sharegpt,
}


def said(*turns: tuple[str, Any], **beside: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **beside}


@pytest.mark.parametrize(
    ("form", "record", "flat"),
    [
        (
            "messages",
            said(("system", "be brief"), ("user", "what is it?"), ("assistant", "a disk"), id="C-1"),
            {"id": "C-1", "system": "be brief", "prompt": "what is it?", "output": "a disk", "turns": []},
        ),
        (
            "messages",
            said(("user", "a"), ("assistant", "b"), ("user", [{"type": "text", "text": "c"}]), ("assistant", "d")),
            {
                "prompt": "c",
                "output": "d",
                "turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}],
            },
        ),
        ("messages", said(("user", "a"), ("assistant", '{"severity": "SEV-1"}')), {"answer": {"severity": "SEV-1"}}),
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"function": {"name": "drain_node", "arguments": '{"node": "n-1"}'}}],
                    },
                ]
            },
            {"output": "", "calls": [{"name": "drain_node", "arguments": {"node": "n-1"}}]},
        ),
        (
            "alpaca",
            {"instruction": "do", "input": "this", "output": "done", "system": "s", "history": [["q", "a"]]},
            {
                "instruction": "do",
                "prompt": "do\nthis",
                "output": "done",
                "system": "s",
                "turns": [{"role": "user", "text": "q"}, {"role": "assistant", "text": "a"}],
            },
        ),
        ("alpaca", {"instruction": "do", "input": "", "output": "done"}, {"prompt": "do", "system": ""}),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"},
            {"prompt": "a", "output": "b", "system": "s"},
        ),
    ],
)
def test_a_conversation_becomes_a_flat_record(form: str, record: dict[str, Any], flat: dict[str, Any]) -> None:
    found, fault = FORMS[form](record)
    assert fault == ""
    assert {key: found[key] for key in flat} == flat


@pytest.mark.parametrize(
    ("form", "record", "told"),
    [
        ("messages", {"text": "hello"}, "a list of messages is expected"),
        ("messages", {"messages": "hello"}, "a list of messages is expected, got 'hello'"),
        ("messages", {"messages": ["hello", None]}, "no role and content"),
        ("messages", {"messages": []}, "no answer of the assistant to somebody: nobody spoke"),
        ("messages", said(("user", "a")), "user spoke"),
        ("messages", said(("assistant", "a"), ("assistant", "b")), "assistant, assistant spoke"),
        ("alpaca", {"instruction": "do", "output": None}, "output: a text is expected, got None"),
        ("sharegpt", {"conversations": {"from": "human"}}, "a list of turns is expected"),
        ("sharegpt", {"conversations": [1, 2]}, "no from and value"),
    ],
)
def test_what_is_no_conversation_is_told(form: str, record: dict[str, Any], told: str) -> None:
    assert told in FORMS[form](record)[1]


@pytest.mark.parametrize("prompt", ["what is it?", "task: triage\n  an indent without its key", "task: triage\n\n"])
def test_a_prompt_that_is_not_ours_has_no_fields(prompt: str) -> None:
    assert fields_of(prompt) is None


#: What becomes a list or a mapping again; all else of a prompt is text.
SHAPES: dict[str, dict[str, str]] = {
    "remediation": {"labels": "mapping"},
    "triage": {},
    "log_error": {},
    "audit": {"details": "mapping"},
    "code_review": {},
    "diagnosis": {"topology": "mapping", "telemetry": "mapping", "symptoms": "list"},
    "workflow": {"signals": "mapping", "manual_steps": "list"},
}


def rules(skill: str, form: str) -> dict[str, Any]:
    shapes = {
        name: {"from": f"fields.{name}", "lines": shape, "optional": True} for name, shape in SHAPES[skill].items()
    }
    return {
        "kind": "files",
        "connection": "opstune_files",
        "read": {"path": "*.jsonl", "form": form},
        "skill": skill,
        "fields": {"source_id": "digest", "group_id": "digest", "occurred_at": {"value": "2026-01-05T10:00:00Z"}},
        "context": {"*": {"from": "fields", "without": ["task"]}, **shapes},
        "answer": {"*": "answer"},
    }


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Example]]:
    """Some examples of each skill, as the sources of the repository give them."""
    home = tmp_path_factory.mktemp("home")
    write_history(home / "history", SimulateSettings(seed=3, days=6, incidents_per_day=12))
    urls = {
        "opstune_files": str(home / "history"),
        "opstune_database": f"sqlite:///{home / 'history' / 'oncall.db'}",
    }

    def connection(name: str) -> Connection | None:
        return Connection(url=SecretStr(urls[name])) if name in urls else None

    for source in source_names():
        pull(source, home / "examples", CollectSettings(), connection, home)
    found: dict[str, list[Example]] = {skill: [] for skill in SHAPES}
    for example in ExampleStore(home / "examples").read():
        found[example.skill].append(example)
    return {skill: examples[:100] for skill, examples in found.items()}


@pytest.mark.parametrize("form", EXPORTED)
@pytest.mark.parametrize("skill", SHAPES)
def test_what_was_exported_is_read_back_with_the_same_prompts_and_answers(
    place: Place, known: dict[str, list[Example]], form: str, skill: str
) -> None:
    place.rules(rules(skill, form))
    write_lines(place.data / "train.jsonl", [EXPORTED[form](example) for example in known[skill]])
    report = place.pull()
    of = skills.get(skill)
    prompts = {of.render(example.context): target(example.answer) for example in known[skill]}
    assert (report.quarantined, report.read) == (0, len(known[skill])), reasons(place)
    assert len(prompts) > 20
    assert {of.render(example.context): target(example.answer) for example in place.examples()} == prompts


def reasons(place: Place) -> list[str]:
    return [entry.reason for entry in Quarantine(place.store, "history").entries()][:3]


def test_the_shipped_source_takes_triage_out_of_a_mixed_export(
    place: Place, known: dict[str, list[Example]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPSTUNE_CONFIG")
    assert place.pull("chats").off == "there is no connection opstune_chats"
    place.connections["opstune_chats"] = str(place.data)
    both = known["triage"][:20] + known["log_error"][:20]
    write_lines(place.data / "train.jsonl", [as_messages(example) for example in both])
    report = place.pull("chats")
    assert (report.new, report.passed_over, report.quarantined) == (20, 20, 0)
    assert place.examples()[0].context["title"] and SYSTEM not in str(place.examples()[0].context)


def test_other_peoples_chats_have_their_prompt_for_a_context(place: Place) -> None:
    found = rules("triage", "messages") | {"context": {"title": "prompt"}, "answer": {"severity": "output"}}
    place.rules(found)
    place.write(said(("user", "the shop is down"), ("assistant", "SEV-0")), name="chats.jsonl")
    place.pull()
    [example] = place.examples()
    assert (example.context, example.answer) == ({"title": "the shop is down"}, {"severity": "SEV-0"})
