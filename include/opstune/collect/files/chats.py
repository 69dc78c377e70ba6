"""Conversations as other trainers write them, each as one flat record: OpenAI's messages, alpaca, ShareGPT.

A flat record keeps the keys that stood beside the conversation and adds ``system``, ``prompt`` (what was asked
last), ``output`` (the answer to it), ``turns`` (what was said before, as ``role`` and ``text``), ``digest`` (of
system, prompt and turns, for records without an id), ``answer`` where the output is a JSON object, ``calls`` where it
calls functions, and ``fields`` where the prompt is one that opstune rendered: its parts, as texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from opstune.artifacts import fingerprint
from opstune.collect.plain import parse_json, plain, shown

Record = dict[str, Any]
#: A role and what was said.
Turn = tuple[str, str]

_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}
_FIELD = re.compile(r"(\S[^:\n]*):(?: (.*))?")
_INDENT = "  "


def from_messages(record: Record) -> tuple[Record, str]:
    """``{"messages": [{"role", "content"}]}``; content may be a list of parts, an answer may be calls of functions."""
    chat = record.get("messages")
    if not isinstance(chat, list):
        return record, f"messages: a list of messages is expected, got {shown(chat)}"
    turns = [(str(one.get("role")), _content(one.get("content"))) for one in chat if isinstance(one, Mapping)]
    if len(turns) < len(chat):
        return record, "messages: one of them has no role and content"
    calls = [call.get("function") for call in _list(chat[-1].get("tool_calls") if chat else None)]
    return _flat(_without(record, "messages"), turns, {"calls": [_call(call) for call in calls]} if calls else {})


def from_alpaca(record: Record) -> tuple[Record, str]:
    """``instruction``, ``input``, ``output``, ``system``, and ``history``, a list of questions with their answers."""
    if not isinstance(record.get("output"), str):
        return record, f"output: a text is expected, got {shown(record.get('output'))}"
    asked = "\n".join(str(record[key]) for key in ("instruction", "input") if record.get(key))
    turns = [("system", str(record["system"]))] if record.get("system") else []
    for said in _list(record.get("history")):
        turns += zip(("user", "assistant"), map(str, _list(said)), strict=False)
    return _flat(_without(record, "history"), [*turns, ("user", asked), ("assistant", record["output"])], {})


def from_sharegpt(record: Record) -> tuple[Record, str]:
    """``{"conversations": [{"from", "value"}]}`` with ``system`` beside it or as its first turn."""
    chat = record.get("conversations")
    if not isinstance(chat, list):
        return record, f"conversations: a list of turns is expected, got {shown(chat)}"
    said = [(one.get("from"), one.get("value")) for one in chat if isinstance(one, Mapping)]
    turns = [(_SHAREGPT_ROLES.get(str(role), str(role)), _content(text)) for role, text in said]
    if len(turns) < len(chat):
        return record, "conversations: one turn has no from and value"
    before = [("system", str(record["system"]))] if record.get("system") else []
    return _flat(_without(record, "conversations"), [*before, *turns], {})


FORMS: Mapping[str, Callable[[Record], tuple[Record, str]]] = {
    "messages": from_messages,
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
}


def fields_of(prompt: str) -> dict[str, str] | None:
    """The parts of a prompt as ``skills.base.render_record`` writes it, or none where it is no such prompt.

    A block of indented lines is given as text: which of them are lists and mappings is for the mapping file to say
    (``lines``). What the context held beside what was rendered cannot be had back.
    """
    if not prompt.startswith("task: "):
        return None
    found: dict[str, str] = {}
    block: list[str] | None = None
    key = ""
    for line in prompt.split("\n"):
        if block is not None and line.startswith(_INDENT):
            block.append(line.removeprefix(_INDENT))
            found[key] = "\n".join(block)
        elif part := _FIELD.fullmatch(line):
            key, block = part[1], [] if part[2] is None else None
            found[key] = part[2] or ""
        else:
            return None
    return found


def _flat(beside: Record, turns: list[Turn], more: Record) -> tuple[Record, str]:
    if len(turns) < 2 or turns[-1][0] != "assistant" or turns[-2][0] not in ("user", "tool"):
        roles = ", ".join(role for role, _ in turns) or "nobody"
        return beside, f"the last turn is no answer of the assistant to somebody: {roles} spoke"
    *before, (_, prompt), (_, output) = turns
    system = "\n".join(text for role, text in before if role == "system")
    said = [{"role": role, "text": text} for role, text in before if role != "system"]
    flat = {**beside, "system": system, "prompt": prompt, "output": output, "turns": said, **more}
    flat["digest"] = fingerprint([system, prompt, said])[:16]
    if (fields := fields_of(prompt)) is not None:
        flat["fields"] = fields
    try:
        answer = parse_json(output)
    except ValueError:
        return flat, ""
    return flat | ({"answer": answer} if isinstance(answer, dict) else {}), ""


def _content(content: Any) -> str:
    """A message's text; of parts (OpenAI's lists) those that are text."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "\n".join(str(part) for part in parts if part)
    return "" if content is None else str(content)


def _call(call: Any) -> Any:
    """A call of a function, its arguments as values."""
    if isinstance(call, Mapping) and isinstance(call.get("arguments"), str):
        try:
            return {**call, "arguments": parse_json(call["arguments"])}
        except ValueError:
            return plain(call)
    return plain(call)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _without(record: Record, key: str) -> Record:
    return {name: value for name, value in record.items() if name != key}
