"""A stand-in for Linear on graphql-core: each query is validated against the schema, counted, limited and executed.

Cursors are ids, as Linear's are: an issue that is changed takes the place of a page's end along with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fault_server import Answer, Request
from graphql import (
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    validate,
)
from graphql.language import DocumentNode, FieldNode, FragmentSpreadNode, OperationDefinitionNode

SUBSET = Path(__file__).with_name("linear_subset.graphql")
REAL = Path(__file__).parents[3] / "shared" / "data" / "linear-schema.graphql"
KEY = "lin_api_k3y"
#: Linear's own limits an hour for an API key, and for one query.
REQUESTS, POINTS, MOST = 2500, 3_000_000, 10_000

Json = dict[str, Any]


class Linear:
    """Answers ``POST /graphql`` over ``issues``, as dictionaries in the schema's own names.

    ``most`` is what a query may cost, ``left`` what may still be asked, which headers tell while it is ``announced``
    and which comes back whole at the end of ``limit``'s window, by a clock that is ``ahead`` by seconds; ``before`` is
    called with each operation's name before it is answered.
    """

    def __init__(self, schema: Path, issues: Iterable[Json], key: str = KEY) -> None:
        self.schema = build_schema(schema.read_text(), assume_valid=True)
        self.issues = list(issues)
        self.authorization = key
        self.most: float = MOST
        self.announced = True
        self.ahead = 0.0
        self.says_throttled: tuple[int, str] = (400, "RATELIMITED")
        self.costs: list[int] = []
        self.asked: list[tuple[str, Json]] = []
        self.throttled = 0
        self.before: Callable[[str], None] = lambda _operation: None
        self._valid: dict[str, DocumentNode] = {}
        self.limit()

    def limit(self, requests: float = REQUESTS, complexity: float = POINTS, window: float = 3600.0) -> None:
        """What may be asked until so many seconds after it is used up."""
        self.limits: dict[str, float] = {"requests": requests, "complexity": complexity}
        self.left = dict(self.limits)
        self.window = window
        self._reset = time.time() + window

    def __call__(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.path != "/graphql" or request.method != "POST":
            return Answer({"error": "not found"}, 404)
        if headers.get("authorization") != self.authorization:
            return self._error(401, "AUTHENTICATION_ERROR", "Authentication required, not authenticated")
        body = request.json()
        document = self._valid.get(body["query"]) or parse(body["query"])
        if body["query"] not in self._valid:
            wrong = validate(self.schema, document)
            if wrong:
                return self._error(400, "GRAPHQL_VALIDATION_FAILED", wrong[0].message)
            self._valid[body["query"]] = document
        return self._limited(document, body["operationName"], body["variables"])

    def _limited(self, document: DocumentNode, operation: str, variables: Json) -> Answer:
        points = complexity(self.schema, document, operation, variables)
        self._refill()
        if points > self.most:
            return self._error(400, "INPUT_ERROR", f"Query too complex: {points} points")
        if self.left["requests"] < 1 or self.left["complexity"] < points:
            self.throttled += 1
            status, code = self.says_throttled
            return self._error(status, code, "Rate limit exceeded")
        self.left["requests"] -= 1
        self.left["complexity"] -= points
        if self.left["requests"] < 1 or self.left["complexity"] < self.most:
            self._reset = time.time() + self.window
        self.costs.append(points)
        self.asked.append((operation, variables))
        self.before(operation)
        return self._answered(document, operation, variables, points)

    def _answered(self, document: DocumentNode, operation: str, variables: Json, points: int) -> Answer:
        root = {"issues": self._issues, "issue": self._issue}
        done = execute_sync(self.schema, document, root, None, variables, operation, field_resolver=_resolve)
        body: Json = {"data": done.data}
        if done.errors:
            body["errors"] = [
                {"message": error.message, "extensions": {"code": "INVALID_INPUT"}} for error in done.errors
            ]
        return Answer(body, 200, {**self._headers(), "X-Complexity": str(points)})

    def _issues(self, info: GraphQLResolveInfo, **given: Any) -> list[Json]:
        found = [issue for issue in self.issues if given.get("includeArchived") or not issue["archivedAt"]]
        found = [issue for issue in found if _fits(issue, given.get("filter") or {})]
        for by in given.get("sort") or ():
            ((field, how),) = by.items()
            found.sort(key=lambda issue: (issue[field], issue["id"]), reverse=how["order"] == "Descending")
        return found

    def _issue(self, info: GraphQLResolveInfo, id: str) -> Json:
        for issue in self.issues:
            if issue["id"] == id:
                return issue
        raise GraphQLError(f"Entity not found: Issue {id}")

    def _refill(self) -> None:
        if time.time() >= self._reset:
            self.left = dict(self.limits)
            self._reset = time.time() + self.window

    def _headers(self) -> dict[str, str]:
        return {
            f"X-RateLimit-{name.title()}-{what}": str(round(value))
            for name in self.limits
            for what, value in (
                ("Limit", self.limits[name]),
                ("Remaining", self.left[name] if self.announced else self.limits[name]),
                ("Reset", math.ceil((self._reset + self.ahead) * 1000)),
            )
        }

    def _error(self, status: int, code: str, message: str) -> Answer:
        extensions = {"code": code, "type": code.lower().replace("_", " ")}
        return Answer({"errors": [{"message": message, "extensions": extensions}]}, status, self._headers())


def complexity(schema: GraphQLSchema, document: DocumentNode, operation: str, variables: Mapping[str, Any]) -> int:
    """Linear's rule, by the schema's types: 0.1 a value, 1 an object, a connection's inside times its page or 50."""
    fragments = {one.name.value: one for one in document.definitions if one.kind == "fragment_definition"}
    root = next(
        one for one in document.definitions if one.kind == "operation_definition" and one.name.value == operation
    )
    assert isinstance(root, OperationDefinitionNode)

    def points(node: Any, parent: GraphQLObjectType) -> float:
        total = 0.0
        for field in node.selection_set.selections:
            if isinstance(field, FragmentSpreadNode):
                total += points(fragments[field.name.value], parent)
                continue
            kind = get_named_type(parent.fields[field.name.value].type)
            if field.selection_set is None:
                total += 0.1
                continue
            times = _page(field, variables) if kind.name.endswith("Connection") else 1
            total += 1 + times * points(field, kind)
        return total

    assert schema.query_type
    return math.ceil(round(points(root, schema.query_type), 6))


def _page(field: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in field.arguments:
        if argument.name.value in ("first", "last"):
            value = argument.value
            return int(variables[value.name.value] if value.kind == "variable" else value.value)  # type: ignore[attr-defined]
    return 50


def _resolve(source: Any, info: GraphQLResolveInfo, **given: Any) -> Any:
    value = source.get(info.field_name)
    if callable(value):
        value = value(info, **given)
    if get_named_type(info.return_type).name.endswith("Connection"):
        return _connection(value, given.get("first") or 50, given.get("after"))
    return value


def _connection(nodes: list[Json], first: int, after: str | None) -> Json:
    ids = [node.get("id", str(number)) for number, node in enumerate(nodes)]
    start = ids.index(after) + 1 if after else 0
    page = nodes[start : start + first]
    end = ids[start + len(page) - 1] if page else None
    return {"nodes": page, "pageInfo": {"hasNextPage": start + first < len(nodes), "endCursor": end}}


def _fits(issue: Json, asked: Mapping[str, Any]) -> bool:
    """What opstune asks for; anything else is a fault of the test."""
    for field, how in asked.items():
        if field == "state":
            holds = issue["state"]["type"] == how["type"]["eq"]
        elif field == "updatedAt":
            holds = datetime.fromisoformat(issue["updatedAt"]) >= datetime.fromisoformat(how["gte"])
        elif field == "labels":
            holds = any(label["name"] in how["some"]["name"]["in"] for label in issue["labels"])
        elif field == "team":
            holds = issue["team"]["key"] in how["key"]["in"]
        else:
            raise GraphQLError(f"this stand-in knows no filter {field}")
        if not holds:
            return False
    return True
