"""Linear's GraphQL interface: when to slow down, and which fault an answer tells.

Throttling is HTTP 400 with an error code, or 429, or an error beside HTTP 200; limits stand in headers, their resets
in milliseconds since 1970 (https://linear.app/developers/rate-limiting).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from opstune.collect.issues.linear_cost import cost, document
from opstune.errors import AccessDenied, ConfigError, OpstuneError, ServiceDown, Throttled
from opstune.http import Http
from opstune.settings import Connection, Patience

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_SHOWN = 300
_LIMITS = ("requests", "complexity")
_REFUSED = {"authenticationerror", "forbidden", "featurenotaccessible", "unauthenticated"}
_WRONG = {"invalidinput", "inputerror", "baduserinput", "usererror", "graphqlerror"}
_WRONG |= {"graphqlvalidationfailed", "graphqlparsefailed", "entitynotfound"}


class TooComplex(ConfigError):
    """The query costs more than Linear allows: smaller pages may help."""


class LinearApi:
    """Asks the operations of ``linear.graphql``."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self._patience = patience
        self._token = connection.token
        self._remaining: dict[str, float] = {}
        self._reset = 0.0
        scheme = "Bearer" if (connection.token or "").startswith("lin_oauth") else ""
        self._http = Http("Linear", connection, patience, scheme=scheme, throttled=self._throttled, fault=self._fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.__exit__(kind, error, trace)

    def ask(self, operation: str, variables: Mapping[str, Any]) -> Any:
        """The data of one operation.

        Raises:
            TooComplex: it costs more than 10,000 points.
            Throttled: what is left of this hour's limits is not enough, and the pause would be too long.
            AccessDenied, ConfigError, ServiceDown: as Linear's own error code says.
        """
        self._pause(cost(operation, variables))
        body = {"query": document(), "operationName": operation, "variables": dict(variables)}
        answer = self._http.post("graphql", body)
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict):
            told = json.dumps(answer, default=str)[:_SHOWN]
            raise ServiceDown(f"Linear answers without data: {told}", self._http.address, "The next run asks again.")
        return data

    def parsed(self, model: type[M], value: Any) -> M:
        """A part of an answer as a typed model.

        Raises:
            DataError: it has another form.
        """
        return self._http.parsed(model, value)

    def _pause(self, points: int) -> None:
        """Wait for the next hour's limits where this hour's are as good as used up."""
        short = self._remaining.get("requests", math.inf) < 1 or self._remaining.get("complexity", math.inf) < points
        seconds = max(self._reset - time.monotonic(), 0.0) if short else 0.0
        if not seconds:
            return
        if seconds > self._patience.longest_wait_seconds:
            what = f"this hour's limits of Linear are used up for {seconds:.0f} s more"
            fault = Throttled(what, self._http.address, "Nothing is lost: the next run goes on from here.")
            fault.seconds = seconds
            raise fault
        log.info("Linear's limits are nearly used up; goes on in %.0f s", seconds)
        time.sleep(seconds)

    def _throttled(self, response: httpx.Response) -> float | None:
        """Learn what is left; seconds to wait when the answer asks for it."""
        self._remaining = {name: left for name in _LIMITS if (left := _number(response, name, "remaining")) is not None}
        spent = [name for name in _LIMITS if self._remaining.get(name, math.inf) < 1]
        resets = [at for name in spent or _LIMITS if (at := _number(response, name, "reset")) is not None]
        wait = (
            max((max(resets) if spent else min(resets)) / 1000 - self._http.now().timestamp(), 0.0) if resets else 0.0
        )
        self._reset = time.monotonic() + wait
        if response.status_code == 429 or any("ratelimited" in _codes(error) for error in _errors(response)):
            return max(wait, _plain_number(response.headers.get("retry-after")) or 0.0)
        return None

    def _fault(self, response: httpx.Response) -> OpstuneError | None:
        errors = _errors(response)
        if not errors:
            return None
        codes = set().union(*map(_codes, errors))
        told = "; ".join(dict.fromkeys(_message(error) for error in errors))[:_SHOWN]
        told = told.replace(self._token, "***") if self._token else told
        where = self._http.address
        if codes & _REFUSED:
            todo = "Correct the key of its connection, or ask its owner for the right to read."
            return AccessDenied(f"Linear refuses access: {told}", where, todo)
        if "complex" in told.lower() and not response.is_server_error:
            return TooComplex(
                f"Linear finds the query too complex: {told}", where, "Lower read.page in the source file."
            )
        if codes & _WRONG:
            return ConfigError(f"Linear refuses the query: {told}", where, "Correct the source file.")
        return ServiceDown(f"Linear has a fault of its own: {told}", where, "The next run goes on from here.")


def _errors(response: httpx.Response) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(response.content)
    except ValueError:
        return []
    errors = found.get("errors") if isinstance(found, dict) else None
    listed = errors if isinstance(errors, list) else [errors] if errors else []
    return [error if isinstance(error, dict) else {"message": str(error)} for error in listed]


def _codes(error: Mapping[str, Any]) -> set[str]:
    """An error's code and type in one writing: AUTHENTICATION_ERROR and ``authentication error`` are the same."""
    told = error.get("extensions")
    given = (told.get("code"), told.get("type")) if isinstance(told, dict) else ()
    return {"".join(filter(str.isalnum, str(one).lower())) for one in given if one}


def _message(error: Mapping[str, Any]) -> str:
    told = error.get("extensions")
    for_people = told.get("userPresentableMessage") if isinstance(told, dict) else ""
    return f"{error.get('message', '')} ({for_people})" if for_people else str(error.get("message", error))


def _number(response: httpx.Response, limit: str, what: str) -> float | None:
    return _plain_number(response.headers.get(f"x-ratelimit-{limit}-{what}"))


def _plain_number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
