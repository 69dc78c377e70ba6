"""Source ``linear``: completed issues with all that hangs on them, in the order of their last change.

Pages go on by the moment of change and not by cursor: Linear's cursors are issues, and an issue that is changed while
others are read moves to the end and would take the place along.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from opstune.collect.issues import linear_issue
from opstune.collect.issues.linear_api import LinearApi, TooComplex
from opstune.collect.issues.linear_cost import largest_page
from opstune.collect.issues.linear_issue import Issue, Page
from opstune.collect.prose.action_text import CommandRule
from opstune.collect.rules import in_utc
from opstune.collect.source import ALWAYS, Kind, Opening, Raw, Reached
from opstune.errors import ConfigError, DataError
from opstune.settings import Connection, Section

log = logging.getLogger(__name__)

#: Linear's own largest page.
_LARGEST = 250
_NESTED = {
    "labels": "MoreLabels",
    "attachments": "MoreAttachments",
    "comments": "MoreComments",
    "history": "MoreHistory",
}
_LEVELS = {"Urgent": "SEV-0", "High": "SEV-1", "Medium": "SEV-2", "Low": "SEV-3"}
_LEVELS |= {f"{word}{number}": f"SEV-{number}" for number in range(4) for word in ("SEV-", "SEV")}


class Command(Section):
    """A command that people paste, as a function: the pattern's named groups are its parameters."""

    pattern: str
    function: str

    @field_validator("pattern")
    @classmethod
    def _is_one(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"the pattern is no regular expression: {error}") from None
        return pattern


class LinearOptions(Section):
    """``labels`` and ``teams`` (keys) narrow the issues down, any of each. ``page`` is how many issues one query asks
    for at most; what Linear allows may be less. ``severities`` maps labels, severities in the text and Linear's
    priorities to levels, whatever their case. ``commands`` read commands in closing comments."""

    labels: list[str] = Field(default_factory=list)
    teams: list[str] = Field(default_factory=list)
    page: int = Field(50, ge=1, le=_LARGEST)
    severities: dict[str, str] = Field(default_factory=lambda: dict(_LEVELS), validate_default=True)
    commands: list[Command] = Field(default_factory=list)

    @field_validator("severities")
    @classmethod
    def _in_lower_case(cls, severities: dict[str, str]) -> dict[str, str]:
        return {name.lower(): level for name, level in severities.items()}


class _Issues(BaseModel):
    """A page whose issues are looked at one by one: one that is wrong does not stop the others."""

    model_config = ConfigDict(alias_generator=to_camel)

    nodes: list[Any]
    page_info: Page


class LinearReader:
    """Reads the completed issues of a workspace."""

    def __init__(self, options: LinearOptions, opening: Opening, connection: Connection) -> None:
        self._options = options
        self._opening = opening
        self._connection = connection
        self._overlap = timedelta(minutes=opening.settings.overlap_minutes)
        self._rules = [CommandRule(re.compile(command.pattern), command.function) for command in options.commands]
        self._page = largest_page(options.page)
        self._highest: datetime | None = None

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """When the issue that was completed last was."""
        with LinearApi(self._connection, self._opening.settings.patience) as linear:
            nodes = _issues(linear, linear.ask("Newest", {"filter": self._filter(None)})).nodes
        moments = (_moment(node, "completedAt") for node in nodes)
        return max(filter(None, moments), default=None)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        last = datetime.fromisoformat(position["highest"]) if position else None
        self._highest = last
        since = max(floor, last - self._overlap) if last else floor
        with LinearApi(self._connection, self._opening.settings.patience) as linear:
            for nodes in self._pages(linear, since):
                for node in nodes:
                    yield self._raw(linear, node)
                    changed = _moment(node, "updatedAt")
                    self._highest = max(filter(None, (self._highest, changed)), default=None)
                if self._highest:
                    yield Reached(self.reached())

    def reached(self) -> dict[str, Any]:
        return {"highest": self._highest.isoformat()} if self._highest else {}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    def _pages(self, linear: LinearApi, since: datetime) -> Iterator[list[Any]]:
        """The issues changed since a moment, a page at a time, each once."""
        cursor: str | None = None
        seen: set[tuple[str, datetime]] = set()
        while True:
            page = self._ask(linear, since, cursor)
            moments = [(node, _moment(node, "updatedAt")) for node in page.nodes]
            yield [node for node, changed in moments if changed is None or (_id(node), changed) not in seen]
            if not page.page_info.has_next_page:
                return
            known = [changed for _, changed in moments if changed]
            if known != sorted(known) or any(changed < since for changed in known):
                what = "Linear gives issues in another order than that of their last change"
                raise DataError(what, self._opening.source, "Reading on would leave some out; tell opstune's keepers.")
            border = [(_id(node), changed) for node, changed in moments if changed and changed == known[-1]]
            if known and known[-1] > since:
                since, cursor, seen = known[-1], None, set(border)
            else:
                cursor = page.page_info.end_cursor
                seen.update(border)

    def _ask(self, linear: LinearApi, since: datetime, cursor: str | None) -> _Issues:
        """One page, as large as Linear lets it be."""
        while True:
            asked = {"filter": self._filter(since), "first": self._page, "after": cursor}
            try:
                return _issues(linear, linear.ask("Issues", asked))
            except TooComplex:
                if self._page == 1:
                    raise
                self._page //= 2
                log.info("Linear finds the query too complex; goes on with %d issues a page", self._page)

    def _filter(self, since: datetime | None) -> dict[str, Any]:
        asked: dict[str, Any] = {"state": {"type": {"eq": "completed"}}}
        if since and since > ALWAYS:
            asked["updatedAt"] = {"gte": since.isoformat().replace("+00:00", "Z")}
        if self._options.labels:
            asked["labels"] = {"some": {"name": {"in": self._options.labels}}}
        if self._options.teams:
            asked["team"] = {"key": {"in": self._options.teams}}
        return asked

    def _raw(self, linear: LinearApi, node: Any) -> Raw:
        origin = f"issue {_id(node) or 'without an id'}"
        try:
            for name, operation in _NESTED.items():
                self._complete(linear, node, name, operation)
            issue = Issue.model_validate(node)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            return Raw("", origin, node, f"the issue is not as Linear describes it: {place}: {first['msg']}")
        return Raw("", origin, linear_issue.record(issue, self._options.severities, self._rules))

    def _complete(self, linear: LinearApi, node: Any, name: str, operation: str) -> None:
        """Fetch what hangs on an issue beyond the first page of it."""
        given = node.get(name) if isinstance(node, dict) else None
        if not isinstance(given, dict):
            return
        page = _Issues.model_validate(given)
        while page.page_info.has_next_page and page.page_info.end_cursor:
            data = linear.ask(operation, {"id": node.get("id"), "after": page.page_info.end_cursor})
            issue = data.get("issue")
            page = linear.parsed(_Issues, issue.get(name) if isinstance(issue, dict) else None)
            given["nodes"] += page.nodes


def _issues(linear: LinearApi, data: Mapping[str, Any]) -> _Issues:
    return linear.parsed(_Issues, data.get("issues"))


def _id(node: Any) -> str:
    return str(node.get("id") or "") if isinstance(node, dict) else ""


def _moment(node: Any, field: str) -> datetime | None:
    try:
        return in_utc(datetime.fromisoformat(node[field]))
    except (KeyError, TypeError, ValueError):
        return None


def _open(options: LinearOptions, opening: Opening) -> LinearReader:
    if opening.connection is None:
        raise ConfigError(f"{opening.source} has no connection", opening.source, "Name one in its source file.")
    return LinearReader(options, opening, opening.connection)


KIND = Kind(LinearOptions, _open)
