"""What was done, out of text: a call of a function with its parameters, a command, or that nothing was needed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opstune.collect.prose.markdown import Fence
from opstune.skills.functions import NONE

_PAIR = r"\w+\s*[=:]\s*(?:\"[^\"]*\"|'[^']*'|[^\s,()\"'{}\[\]]+)"
_CALL = re.compile(rf"(?<![\w.])([a-z][a-z0-9_]*)\(\s*({_PAIR}(?:\s*,\s*{_PAIR})*)\s*,?\s*\)")
_ARGUMENT = re.compile(r"(\w+)\s*[=:]\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s,()\"'{}\[\]]+))")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_IN_VAIN = re.compile(
    r"(?i)\b(?:did ?n[o']t|does ?n[o']t|didnt|not|without|no) (?:really |seem to |actually )?"
    r"(?:help|work|effect|fix|solve|enough|success|improve)"
    r"|^\W*(?:(?:but|and|which|it|that|this|has|had|have|also) )*failed\b|\bmade it worse\b|\bin vain\b|\bto no avail\b"
)
_NOT_DONE = re.compile(
    r"(?i)\b(?:do not|don't|never|should(?: not|n't)?|could|would|might|may|next time|instead of|consider|maybe|todo"
    r"|if)\b"
)
_NO_ACTION = re.compile(
    r"(?i)\bno (?:manual )?(?:action|intervention|remediation)s? (?:was |were |is )?"
    r"(?:needed|required|necessary|taken)\b"
    r"|\bnothing (?:was |had )?(?:to be done|needed doing)\b|\bfalse (?:alarm|positive|alert)\b"
    r"|\b(?:self[- ]?(?:resolved|healed|recovered)|(?:resolved|recovered|cleared|healed)"
    r" (?:itself|by itself|on its own|without (?:any )?(?:action|intervention)))\b"
)
_SHELLS = ("", "sh", "bash", "shell", "console", "zsh", "text", "powershell", "ps1")
_PROMPT = re.compile(r"^\s*(?:\$|#|>|\S+@\S+[:~][^$#]*[$#])\s+")
_TOOLS = re.compile(
    r"^(?:sudo )?(?:kubectl|oc|helm|terraform|ansible\S*|systemctl|service|docker|podman|aws|gcloud|az|psql|mysql"
    r"|redis-cli|kafka\S*|curl|ssh|rm|kill|journalctl|truncate|lvextend|resize2fs|certbot|argocd|flux|nomad|consul|vault)\b"
)


class Action(NamedTuple):
    function: str
    parameters: Mapping[str, str]
    outcome: str


class CommandRule(NamedTuple):
    """A team's own reading of a command: the pattern's named groups are the function's parameters."""

    pattern: re.Pattern[str]
    function: str


def action_in(text: str, fences: Sequence[Fence], rules: Sequence[CommandRule]) -> Action | None:
    """The action that a text says was taken: the last that helped, else the last that did not, else ``none`` where it
    says that nothing was needed. What should have been or might be done is no action."""
    found = [*_called(text, rules), *_in_json(fences), *_commanded(fences, text, rules)]
    helped = [action for action in found if action.outcome == "success"]
    if found:
        return (helped or found)[-1]
    return Action(NONE, {}, "success") if _NO_ACTION.search(text) else None


def commands(fences: Sequence[Fence]) -> list[str]:
    """The shell commands in fences, without prompts; output between them is left out where prompts tell it."""
    found: list[str] = []
    for fence in fences:
        if fence.language not in _SHELLS:
            continue
        lines = [line for line in fence.text.replace("\\\n", " ").splitlines() if line.strip()]
        prompted = [line for line in lines if _PROMPT.match(line) and _TOOLS.match(_PROMPT.sub("", line))]
        for line in prompted or lines:
            command = " ".join(_PROMPT.sub("", line).split())
            if _TOOLS.match(command):
                found.append(command)
    return found


def _called(text: str, rules: Sequence[CommandRule]) -> list[Action]:
    """Calls and commands in sentences. What follows a call, up to the next one, says whether it helped."""
    actions = []
    sentences = _SENTENCE.split(text)
    for number, sentence in enumerate(sentences):
        before = 0
        found = _in_sentence(sentence, rules)
        for place, (start, end, function, parameters) in enumerate(found):
            last = place == len(found) - 1
            told = (
                sentence[end:] + _afterwards(sentences[number + 1 :]) if last else sentence[end : found[place + 1][0]]
            )
            if not _NOT_DONE.search(sentence[before:start]):
                actions.append(Action(function, parameters, "failure" if _IN_VAIN.search(told) else "success"))
            before = end
    return actions


def _in_sentence(sentence: str, rules: Sequence[CommandRule]) -> list[tuple[int, int, str, dict[str, str]]]:
    found = [(call.start(), call.end(), call[1], _arguments(call[2])) for call in _CALL.finditer(sentence)]
    for code in re.finditer(r"`([^`]+)`", sentence):
        if known := _known(code[1], rules):
            found.append((code.start(), code.end(), *known))
    return sorted(found, key=lambda one: one[0])


def _known(command: str, rules: Sequence[CommandRule]) -> tuple[str, dict[str, str]] | None:
    for rule in rules:
        if found := rule.pattern.search(command):
            return rule.function, {name: value for name, value in found.groupdict().items() if value}
    return None


def _afterwards(following: Sequence[str]) -> str:
    """The next sentence where it speaks of what the last one did: "That did not help"."""
    speaks = re.compile(r"(?i)(?:but |however,? )?(?:that|this|it|which|no effect)\b")
    return f" {following[0]}" if following and speaks.match(following[0]) else ""


def _arguments(text: str) -> dict[str, str]:
    return {found[1]: found[2] or found[3] or found[4] or "" for found in _ARGUMENT.finditer(text)}


def _in_json(fences: Sequence[Fence]) -> list[Action]:
    """``{"function": ..., "parameters": {...}}``, as automation writes what it did."""
    actions = []
    for fence in fences:
        try:
            value = json.loads(fence.text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, Mapping) or not isinstance(value.get("function"), str):
            continue
        given = value.get("parameters", value.get("arguments", {}))
        if isinstance(given, Mapping):
            failed = str(value.get("outcome", value.get("status", ""))).lower() in ("failure", "failed", "error")
            filled = {str(key): str(item) for key, item in given.items()}
            actions.append(Action(value["function"], filled, "failure" if failed else "success"))
    return actions


def _commanded(fences: Sequence[Fence], text: str, rules: Sequence[CommandRule]) -> list[Action]:
    """Commands in fences that a rule knows; where the text says that something was in vain, nobody knows which."""
    known = (_known(command, rules) for command in commands(fences))
    return [] if _IN_VAIN.search(text) else [Action(*one, "success") for one in known if one]
