"""Rules that take one value out of a raw record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from opstune.collect.plain import parse_json, shown
from opstune.settings import Section

MISSING: Any = object()
_FIELD = re.compile(r"\{([^{}]+)\}")
#: Clocks differ; what lies further ahead is a wrong date.
_FUTURE = timedelta(days=1)
#: Zero seconds since 1970, and the year 1, are how programs write that there is no time.
_PAST = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds since 1970 reach this in the year 5138, milliseconds did in 1973.
_MILLISECONDS = 1e11


class Rule(Section):
    """Where one value comes from: a dotted path, a constant, or a template over the record."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: str | None = Field(None, alias="from")
    value: Any = None
    template: str | None = Field(None, description="text with {dotted.path} places")
    map: dict[str, Any] | None = Field(None, description="lookup; without default or keep, another value is a fault")
    keep: bool = Field(False, description="a value that the lookup does not list stays as it is")
    default: Any = None
    optional: bool = Field(False, description="leave the key out when there is no value")
    parse_json: bool = Field(False, alias="json", description="the value is JSON text")
    lines: Literal["list", "mapping"] | None = Field(
        None, description="the value is text with an item a line: `- item`, or `name: value`"
    )
    without: list[str] = Field(default_factory=list, description="keys to leave out of a mapping")
    other_than: str | None = Field(None, description="whether the value names somebody else than that at this path")

    @model_validator(mode="after")
    def _one_origin(self) -> Rule:
        given = [name for name in ("path", "value", "template") if name in self.model_fields_set]
        if len(given) != 1:
            raise ValueError("exactly one of from, value and template is needed")
        return self

    def of(self, record: Mapping[str, Any]) -> Any:
        """The value, or ``MISSING``.

        Raises:
            ValueError: the value is not JSON, not a line for each item, or not in the lookup.
        """
        if "value" in self.model_fields_set:
            return self.value
        found = self._filled(record) if self.template is not None else look_up(record, self.path or "")
        if self.other_than is not None:
            return _names_another(found, look_up(record, self.other_than))
        if self.parse_json and isinstance(found, str):
            found = parse_json(found)
        if self.lines and isinstance(found, str):
            found = _listed(found) if self.lines == "list" else _paired(found)
        if self.without and isinstance(found, Mapping):
            found = {key: value for key, value in found.items() if key not in self.without}
        if self.map is not None and found is not MISSING:
            found = self._mapped(found, self.map)
        return self.default if found is MISSING and "default" in self.model_fields_set else found

    def _mapped(self, found: Any, table: Mapping[str, Any]) -> Any:
        if (key := str(found)) in table:
            return table[key]
        if self.keep:
            return found
        if "default" in self.model_fields_set:
            return MISSING
        raise ValueError(f"{shown(found)} is not in the lookup {sorted(table)}")

    def _filled(self, record: Mapping[str, Any]) -> Any:
        values = {path: look_up(record, path) for path in _FIELD.findall(self.template or "")}
        if any(value is MISSING for value in values.values()):
            return MISSING
        return _FIELD.sub(lambda found: str(values[found[1]]), self.template or "")


def _listed(text: str) -> list[str]:
    return [line.removeprefix("- ") for line in _lines(text)]


def _lines(text: str) -> list[str]:
    """The lines that say something. Not splitlines(): an item may hold the rarer line ends."""
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def _paired(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _lines(text):
        name, colon, value = line.partition(":")
        if not colon or name in found:
            raise ValueError(f"{shown(line)} is no line of `name: value`, or its name stands twice")
        found[name] = value.removeprefix(" ")
    return found


def _names_another(found: Any, person: Any) -> bool:
    """Whether both name somebody, and not the same one, however that is spelt."""
    names = [str(name).strip().casefold() if name is not MISSING else "" for name in (found, person)]
    return all(names) and names[0] != names[1]


def _as_rule(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


RuleOrPath = Annotated[Rule, BeforeValidator(_as_rule)]


def look_up(record: Any, path: str) -> Any:
    """The value at a dotted path; a key that holds dots itself wins. None and absent are both missing."""
    if isinstance(record, Mapping) and path in record:
        return MISSING if record[path] is None else record[path]
    head, _, rest = path.partition(".")
    if not rest or not isinstance(record, Mapping) or record.get(head) is None:
        return MISSING
    return look_up(record[head], rest)


def in_utc(found: datetime) -> datetime:
    """A moment in UTC; one without a zone is taken to be there.

    Raises:
        ValueError: UTC has no such moment.
    """
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{found.isoformat()} lies beyond all calendars") from None


Moment = Annotated[datetime, AfterValidator(in_utc)]


def moment(value: Any, now: datetime) -> datetime:
    """A time in UTC from ISO text, a datetime, or seconds (milliseconds) since 1970.

    Raises:
        ValueError: it is none, lies in the future, or before there were records.
    """
    if value is None or value is MISSING:
        raise ValueError("there is no time")
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
        else:
            found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        found = in_utc(found)
    except (ValueError, OverflowError, OSError, RecursionError):
        raise ValueError(f"{shown(value)} is not a time; expected ISO 8601 or seconds since 1970") from None
    if found > now + _FUTURE:
        raise ValueError(f"{shown(value)} lies in the future")
    if found <= _PAST:
        raise ValueError(f"{shown(value)} is before there were records")
    return found
