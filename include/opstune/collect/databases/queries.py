"""What the sources that ask a query have in common: the query, where it begins, and how often it is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import tenacity
from pydantic import Field, field_validator

from opstune.artifacts import fingerprint
from opstune.collect.plain import plain, shown
from opstune.collect.rules import moment
from opstune.collect.source import Raw
from opstune.errors import OutsideError
from opstune.settings import Patience, Section

log = logging.getLogger(__name__)

#: Rows after which a run that breaks off goes on.
PAGE = 10_000

T = TypeVar("T")


class QueryOptions(Section):
    """``query`` is SQL that compares its watermark with ``>= :since``; ``watermark`` the column of its result that
    grows with every change."""

    query: str
    watermark: str = Field(pattern=r"^\w+$")

    @field_validator("query")
    @classmethod
    def _asks_for_changes(cls, query: str) -> str:
        if ":since" not in query:
            raise ValueError("the query does not ask for changes: compare the watermark column with :since")
        return query.strip().rstrip(";")


def newest_query(options: QueryOptions, highest: str, past: str) -> str:
    """Asks for the highest watermark of the past. A comment may end the query: hence the line break."""
    return f"SELECT {highest} AS newest FROM ({options.query}\n) AS changes WHERE {past}"


def ordered_query(options: QueryOptions, column: str) -> str:
    """The query in the order of its watermark, so that a run that breaks off can go on."""
    return f"SELECT * FROM ({options.query}\n) AS changes ORDER BY {column}"


def raw_row(record: dict[str, Any], watermark: str, name: Callable[[Mapping[str, Any]], str | None]) -> Raw:
    """A row of a query; refused where its watermark is no time of the past."""
    told = record.get(watermark)
    fault = "" if watermark_of(told) else f"{watermark}: {shown(told)} is no time of the past"
    return Raw("", f"row {name(record) or _print_of(record)}", record, fault)


def _print_of(record: dict[str, Any]) -> str:
    try:
        return fingerprint(plain(record))[:16]
    except ValueError:
        return "without an id"


def read_from(position: Mapping[str, Any], floor: datetime, overlap: timedelta) -> datetime:
    """What ``:since`` is after ``position``: ``overlap`` before what was read (``highest``) and what was open then
    (``back``); all from ``floor`` on while there was nothing to read."""
    if "highest" not in position:
        return floor
    last = min(datetime.fromisoformat(position[name]) for name in ("highest", "back") if name in position)
    return last - overlap if last > floor + overlap else floor


def watermark_of(value: Any) -> datetime | None:
    """A watermark in UTC, none if it is no time of the past; a clock that is ahead does not reach beyond now."""
    now = datetime.now(UTC)
    try:
        return min(moment(plain(value), now), now)
    except ValueError:
        return None


def patiently(ask: Callable[[], T], patience: Patience, name: str) -> T:
    """Ask again, with growing waits, while ``name`` does not answer or asks to slow down."""

    def tell(state: tenacity.RetryCallState) -> None:
        log.warning("%s does not answer; asks again (%d of %d)", name, state.attempt_number + 1, patience.attempts)

    asking = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(patience.attempts),
        retry=tenacity.retry_if_exception_type(OutsideError),
        wait=tenacity.wait_random_exponential(patience.backoff_seconds, patience.longest_wait_seconds),
        before_sleep=tell,
        reraise=True,
    )
    return asking(ask)
