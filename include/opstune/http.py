"""One way to talk to outside systems over HTTP: login, time limits, patience, and faults told apart.

A fault of the line or the server is a ``ServiceDown`` and asked again with growing waits; a request to slow
down is a ``Throttled`` and honoured; a refused key is an ``AccessDenied`` and a wrong address or query a
``ConfigError``, which nobody asks again.
"""

from __future__ import annotations

import json
import logging
import math
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import tenacity
from pydantic import BaseModel, ValidationError

from opstune.errors import AccessDenied, ConfigError, DataError, OpstuneError, OutsideError, ServiceDown, Throttled
from opstune.settings import Connection, Patience, faults

log = logging.getLogger(__name__)
# It tells every request at INFO, which is most of a task's log, with whatever stands in the query.
logging.getLogger("httpx").setLevel(logging.WARNING)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

#: Characters of an error's body that a person is shown.
_SHOWN = 300
#: Clocks that differ by more than this are told of.
_SKEW = timedelta(minutes=5)
#: When what is being done is given up, by ``time.monotonic``.
_END: ContextVar[float] = ContextVar("end", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What the block asks of any system, all of it together, is given up after so many seconds."""
    outer = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(outer)


def time_left() -> float:
    """Seconds until what is being done is given up; infinite where nothing is said."""
    return _END.get() - time.monotonic()


class Http:
    """One system's HTTP interface, JSON both ways.

    ``name`` is what people call the system. ``scheme`` stands before a token in the Authorization header;
    systems that want it bare give an empty one. ``throttled`` tells of a response that asks to slow down in a
    way of its own: seconds to wait, or none when it does not ask; 429 is known to all. ``fault`` tells of a
    response that is a fault in a way of its own, whatever its status.
    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        patience: Patience,
        *,
        scheme: str = "Bearer",
        headers: Mapping[str, str] | None = None,
        throttled: Callable[[httpx.Response], float | None] | None = None,
        fault: Callable[[httpx.Response], OpstuneError | None] | None = None,
    ) -> None:
        self.name = name
        self.address = connection.address.rstrip("/")
        self._patience = patience
        self._throttled = throttled
        self._own_fault = fault
        self._secrets = [text for text in (connection.token, *(connection.login or ())[1:]) if text]
        self._skew = timedelta()
        token = {"Authorization": f"{scheme} {connection.token}".strip()} if connection.token else {}
        self._client = httpx.Client(
            auth=connection.login,
            headers={"User-Agent": "opstune", **token, **(headers or {})},
            verify=_trusted(name, connection),
            proxy=connection.proxy.get_secret_value() if connection.proxy else None,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON at a path."""
        return self._patiently(lambda: self._json(self._once("GET", path, params=params)))

    def page(self, path: str, params: Mapping[str, Any] | None = None) -> tuple[Any, str]:
        """The JSON at a path, and the URL of the page after it by the Link header (RFC 8288); empty after the last."""

        def ask() -> tuple[Any, str]:
            response = self._once("GET", path, params=params)
            return self._json(response), response.links.get("next", {}).get("url", "")

        return self._patiently(ask)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a JSON body. Asked again after a fault, so for questions rather than deeds."""
        return self._patiently(lambda: self._json(self._once("POST", path, json=body)))

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask until there is a good answer or patience ends; ``path`` is below the connection's URL, or a whole URL
        that begins with it.

        Raises:
            ServiceDown: no answer, half an answer, or a fault of the server.
            Throttled: the system asked for a longer pause than patience has, or for one too often.
            AccessDenied: the key was refused (401, 403, a proxy's 407), or the certificate cannot be trusted.
            ConfigError: nothing is there (404), or the request was wrong.
        """
        return self._patiently(lambda: self._once(method, path, **request))

    def parsed(self, model: type[M], value: Any) -> M:
        """An answer as a typed model.

        Raises:
            DataError: it has another form; lists each fault.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            told = faults(error, lambda _: self.name)
            what = f"{self.name} answers in a form that opstune does not know: {told[:_SHOWN]}"
            raise DataError(what, self.address, "Check its version and address.") from error

    def now(self) -> datetime:
        """The time by the system's own clock, as its last answer told it."""
        return datetime.now(UTC) + self._skew

    def _patiently(self, ask: Callable[[], T]) -> T:
        asking = tenacity.Retrying(
            stop=self._enough,
            retry=tenacity.retry_if_exception(self._may_ask_again),
            wait=self._pause,
            before_sleep=self._tell,
            reraise=True,
        )
        return asking(ask)

    def _once(self, method: str, path: str, **request: Any) -> httpx.Response:
        url = path if path.startswith(f"{self.address}/") else f"{self.address}/{path.lstrip('/')}"
        if (left := time_left()) <= 0:
            raise ServiceDown(f"the time for {self.name} is over", f"{method} {url}", "Check how busy it is.")
        try:
            response = self._client.request(method, url, timeout=min(self._patience.timeout_seconds, left), **request)
        except httpx.TransportError as error:
            raise self._unreachable(error, f"{method} {url}") from error
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self.name} has no address that can be asked: {error}", url) from error
        self._learn_time(response)
        wanted = self._throttled(response) if self._throttled else None
        if wanted is None and response.status_code == 429:
            wanted = _retry_after(response)
        if wanted is not None:
            raise self._asked_to_wait(wanted, response)
        if self._own_fault and (fault := self._own_fault(response)):
            raise fault
        if response.is_success:
            return response
        raise self._fault(response)

    def _json(self, response: httpx.Response) -> Any:
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise ServiceDown(
                f"{self.name} answers with something that is not JSON: {self._shown(response)}",
                self._where(response.request),
                "Check that the address is the system's own and no proxy stands before it; the next run asks again.",
            ) from error

    def _unreachable(self, error: httpx.TransportError, where: str) -> OpstuneError:
        if isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError) or "CERTIFICATE" in str(
            error
        ):
            todo = "Give the authority's certificate as the connection's ca_file."
            return AccessDenied(f"the certificate of {self.name} cannot be trusted: {error}", where, todo)
        what = "does not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
            what = "breaks off in the middle of an answer"
        told = f": {error}" if str(error) else ""
        return ServiceDown(f"{self.name} {what}{told}", where, "Check that it runs; the next run goes on from here.")

    def _asked_to_wait(self, seconds: float, response: httpx.Response) -> Throttled:
        fault = Throttled(
            f"{self.name} asks to slow down (HTTP {response.status_code}, {seconds:.0f} s)",
            self._where(response.request),
            "Nothing is lost: the next run goes on from here.",
        )
        fault.seconds = seconds
        return fault

    def _fault(self, response: httpx.Response) -> OpstuneError:
        where, status = self._where(response.request), f"HTTP {response.status_code}"
        body = self._shown(response)
        if response.status_code in (401, 403, 407):
            todo = "Correct the login, key or token of its connection, or ask its owner for the right to read."
            return AccessDenied(f"{self.name} refuses access ({status}): {body}", where, todo)
        if response.status_code == 404:
            return ConfigError(f"{self.name} has nothing there ({status})", where, "Correct the connection's address.")
        if response.is_redirect:
            what = f"{self.name} sends on to {response.headers.get('location', '')!r} ({status})"
            return ConfigError(what, where, "Give the final address; a sign-in page means that a token is missing.")
        if response.status_code >= 500:
            todo = "Check its log; the next run goes on from here."
            return ServiceDown(f"{self.name} has a fault of its own ({status}): {body}", where, todo)
        return ConfigError(f"{self.name} refuses the request ({status}): {body}", where, "Correct the source file.")

    def _shown(self, response: httpx.Response) -> str:
        """The beginning of a body for people, without what it may repeat of our own login."""
        text = " ".join(response.text.split())[:_SHOWN] or "no body"
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _where(self, request: httpx.Request) -> str:
        return f"{request.method} {request.url.copy_with(query=None, username=None, password=None)}"

    def _learn_time(self, response: httpx.Response) -> None:
        try:
            told = parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError):
            return
        skew = told - datetime.now(UTC)
        if abs(skew) > _SKEW and abs(self._skew) <= _SKEW:
            minutes = abs(skew).total_seconds() / 60
            log.warning(
                "the clock of %s is %.0f minutes %s", self.name, minutes, "ahead" if skew > timedelta() else "behind"
            )
        self._skew = skew if abs(skew) > _SKEW else timedelta()

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        return state.attempt_number >= self._patience.attempts or time_left() <= state.upcoming_sleep

    def _may_ask_again(self, error: BaseException) -> bool:
        if isinstance(error, Throttled):
            return (error.seconds or 0.0) <= self._patience.longest_wait_seconds
        return isinstance(error, OutsideError)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        grown = tenacity.wait_random_exponential(self._patience.backoff_seconds, self._patience.longest_wait_seconds)
        return max(grown(state), (error.seconds or 0.0) if isinstance(error, Throttled) else 0.0)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        log.warning(
            "%s; asks again in %.0f s (%d of %d)",
            str(error).split(". ")[0],
            pause,
            state.attempt_number + 1,
            self._patience.attempts,
        )


def _trusted(name: str, connection: Connection) -> ssl.SSLContext | bool:
    if connection.ca_file is None:
        return True
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=str(connection.ca_file))
    except (OSError, ssl.SSLError) as error:
        what = f"the ca_file of {name} cannot be read: {error}"
        raise ConfigError(what, str(connection.ca_file), "Give a PEM file of the authority's certificate.") from error
    return context


def _retry_after(response: httpx.Response) -> float:
    """Seconds of the Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); 0 without one."""
    told = response.headers.get("retry-after", "")
    try:
        return max(float(told), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
