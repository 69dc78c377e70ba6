"""What a query costs Linear: it refuses more than 10,000 points.

0.1 a value, 1 an object, and what is in a connection times its page, rounded up. Source:
https://linear.app/developers/rate-limiting, "Complexity".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graphql import FieldNode, FragmentDefinitionNode, OperationDefinitionNode, SelectionSetNode, parse
from graphql.language import DocumentNode, FragmentSpreadNode, IntValueNode, VariableNode

#: Points that one query may cost.
BUDGET = 10_000
#: The page of a connection that names none.
_PAGE = 50


@cache
def document() -> str:
    """All that opstune asks Linear: its operations and their fragments."""
    return Path(__file__).with_name("linear.graphql").read_text()


def cost(operation: str, variables: Mapping[str, Any]) -> int:
    """The points of an operation of ``linear.graphql``."""
    asked = next(
        one
        for one in _document().definitions
        if isinstance(one, OperationDefinitionNode) and one.name and one.name.value == operation
    )
    return math.ceil(round(_points(asked.selection_set, variables), 6))


def largest_page(wanted: int) -> int:
    """How many issues one query may ask for, at most ``wanted``, at least one."""
    return next((first for first in range(wanted, 1, -1) if cost("Issues", {"first": first}) <= BUDGET), 1)


@cache
def _document() -> DocumentNode:
    return parse(document())


def _points(chosen: SelectionSetNode, variables: Mapping[str, Any]) -> float:
    total = 0.0
    for node in _fields(chosen):
        if node.selection_set is None:
            total += 0.1
            continue
        connection = any(inner.name.value == "nodes" for inner in _fields(node.selection_set))
        total += 1 + _points(node.selection_set, variables) * (_page(node, variables) if connection else 1)
    return total


def _fields(chosen: SelectionSetNode) -> Iterator[FieldNode]:
    """The fields that are chosen, those of fragments among them."""
    fragments = {
        one.name.value: one.selection_set for one in _document().definitions if isinstance(one, FragmentDefinitionNode)
    }
    for node in chosen.selections:
        if isinstance(node, FragmentSpreadNode):
            yield from _fields(fragments[node.name.value])
        elif isinstance(node, FieldNode):
            yield node


def _page(node: FieldNode, variables: Mapping[str, Any]) -> int:
    given = next((argument.value for argument in node.arguments if argument.name.value == "first"), None)
    if isinstance(given, VariableNode):
        return int(variables.get(given.name.value, _PAGE))
    return int(given.value) if isinstance(given, IntValueNode) else _PAGE
