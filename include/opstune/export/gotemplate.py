"""Renders the part of Go's text/template that our Modelfiles use, so that what Ollama will write can be checked.

Known are text and its trimming (``{{-``, ``-}}``), ``range``, ``if``, ``else if``, ``else``, ``end``, variables,
fields, strings, parentheses and the functions below. Everything else is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from opstune.errors import ExportError

_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_WORD = re.compile(r"""\s*("(?:\\.|[^"\\])*"|`[^`]*`|:=|[()=,]|[^\s()=,"`:]+)""")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, other: first != other,
    "not": lambda value: not value,
    "and": lambda *values: reduce(lambda kept, value: kept and value, values),
    "or": lambda *values: reduce(lambda kept, value: kept or value, values),
}
_Scope = list[dict[str, Any]]


@dataclass(frozen=True)
class _Block:
    """``range`` or ``if``: its head's words, its body, and what stands after ``else``."""

    name: str
    head: tuple[str, ...]
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


#: Text, an action's words, or a block.
_Node = str | tuple[str, ...] | _Block


def render(template: str, data: Mapping[str, Any]) -> str:
    """The template's text over ``data``, whose keys are the fields of the dot.

    Raises:
        ExportError: the template is broken, or uses what is not known here.
    """
    pieces = _pieces(template)
    nodes, ended = _parse(pieces)
    if ended:
        raise _unknown(f"{' '.join(ended)} without its beginning")
    return "".join(_run(nodes, data, [{"$": data}]))


def _pieces(template: str) -> Iterator[str | tuple[str, ...]]:
    """Text and actions in their order, text trimmed as the marks beside it say."""
    at, trim = 0, False
    for found in _ACTION.finditer(template):
        text = template[at : found.start()]
        text = text.lstrip() if trim else text
        yield text.rstrip() if found[1] else text
        yield _words(found[2])
        at, trim = found.end(), bool(found[3])
    rest = template[at:]
    if "{{" in rest or "}}" in rest:
        raise _unknown("an action that does not end")
    yield rest.lstrip() if trim else rest


def _words(action: str) -> tuple[str, ...]:
    action, at, words = action.strip(), 0, []
    while at < len(action):
        found = _WORD.match(action, at)
        if not found:
            raise _unknown(action)
        words.append(found[1])
        at = found.end()
    return tuple(words)


def _parse(pieces: Iterator[str | tuple[str, ...]]) -> tuple[tuple[_Node, ...], tuple[str, ...]]:
    """Nodes up to ``else`` or ``end``, and the words of that; none at the template's own end."""
    nodes: list[_Node] = []
    for piece in pieces:
        if isinstance(piece, str):
            nodes.append(piece)
        elif piece[:1] in (("range",), ("if",)):
            nodes.append(_block(piece[0], piece[1:], pieces))
        elif piece[:1] in (("else",), ("end",)):
            return tuple(nodes), piece
        else:
            nodes.append(piece)
    return tuple(nodes), ()


def _block(name: str, head: tuple[str, ...], pieces: Iterator[str | tuple[str, ...]]) -> _Block:
    body, ended = _parse(pieces)
    otherwise: tuple[_Node, ...] = ()
    if ended[:2] == ("else", "if"):
        return _Block(name, head, body, (_block("if", ended[2:], pieces),))
    if ended == ("else",):
        otherwise, ended = _parse(pieces)
    if ended != ("end",):
        raise _unknown(f"{name} {' '.join(head)} without its end")
    return _Block(name, head, body, otherwise)


def _run(nodes: Sequence[_Node], dot: Any, scope: _Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, tuple):
            yield from _act(node, dot, scope)
        elif node.name == "if":
            chosen = node.body if _value(node.head, dot, scope) else node.otherwise
            yield from _run(chosen, dot, [*scope, {}])
        else:
            items = _value(node.head, dot, scope)
            for item in items:
                yield from _run(node.body, item, [*scope, {}])
            if not items:
                yield from _run(node.otherwise, dot, [*scope, {}])


def _act(words: tuple[str, ...], dot: Any, scope: _Scope) -> Iterator[str]:
    if words[1:2] == (":=",):
        scope[-1][words[0]] = _value(words[2:], dot, scope)
    elif words[1:2] == ("=",):
        _holder(words[0], scope)[words[0]] = _value(words[2:], dot, scope)
    else:
        value = _value(words, dot, scope)
        yield str(value).lower() if isinstance(value, bool) else str(value)


def _value(words: Sequence[str], dot: Any, scope: _Scope) -> Any:
    """One operand, or a function and its operands."""
    values: list[Any] = []
    rest = list(words)
    function = _FUNCTIONS.get(rest[0]) if rest else None
    if function:
        rest.pop(0)
    while rest:
        word = rest.pop(0)
        if word == "(":
            inner = _parenthesised(rest)
            values.append(_value(inner, dot, scope))
            del rest[: len(inner) + 1]
        else:
            values.append(_operand(word, dot, scope))
    if function and values:
        return function(*values)
    if function or len(values) != 1:
        raise _unknown(" ".join(words))
    return values[0]


def _parenthesised(words: Sequence[str]) -> list[str]:
    depth = 1
    for at, word in enumerate(words):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if not depth:
            return list(words[:at])
    raise _unknown(" ".join(words))


def _operand(word: str, dot: Any, scope: _Scope) -> Any:
    if word[0] == '"':
        return re.sub(r"\\(.)", lambda found: _escaped(found[1]), word[1:-1])
    if word[0] == "`":
        return word[1:-1]
    if word in ("true", "false"):
        return word == "true"
    name, *fields = word.split(".")
    if name and not name.startswith("$"):
        raise _unknown(word)
    value = _holder(name, scope)[name] if name else dot
    for field in filter(None, fields):
        if field not in value:
            raise _unknown(f"the field {field}")
        value = value[field]
    return value


def _escaped(letter: str) -> str:
    if letter not in _ESCAPES:
        raise _unknown(f"\\{letter}")
    return _ESCAPES[letter]


def _holder(name: str, scope: _Scope) -> dict[str, Any]:
    for variables in reversed(scope):
        if name in variables:
            return variables
    raise _unknown(f"the variable {name}")


def _unknown(what: str) -> ExportError:
    todo = "Write it with what export/gotemplate.py knows."
    return ExportError(f"the Modelfile's template holds what cannot be checked: {what}", "TEMPLATE", todo)
