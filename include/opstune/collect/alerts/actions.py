"""What was done about alerts, read from other sources: a database, run logs, closed issues, through rules of fields."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from opstune.collect.alerts.episodes import milliseconds
from opstune.collect.alerts.joining import Action
from opstune.collect.rules import MISSING, Rule, RuleOrPath, moment
from opstune.collect.source import Kind, Opening, Raw
from opstune.examples import Outcome
from opstune.settings import Section

log = logging.getLogger(__name__)


class ActionFields(Section):
    """How an action comes out of a raw record. ``labels`` and ``parameters`` are mappings; ``incident`` is what the
    split holds together; ``notes`` are words, or a list of them, for the people who annotate."""

    id: RuleOrPath
    at: RuleOrPath
    alert: RuleOrPath | None = None
    labels: RuleOrPath | None = None
    function: RuleOrPath | None = None
    parameters: RuleOrPath | None = None
    outcome: RuleOrPath | None = None
    by: RuleOrPath | None = None
    incident: RuleOrPath | None = None
    notes: RuleOrPath | None = None


class ActionSource(Section):
    """One source of actions: of any kind, read as that kind is read. ``agree_on`` are labels that an action and its
    episode must have in common; an action that names no alert is joined by these alone."""

    kind: str
    connection: str | None = None
    read: SerializeAsAny[Section] = Field(default_factory=dict, validate_default=True)
    agree_on: list[str] = Field(default_factory=list)
    fields: ActionFields

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str, info: ValidationInfo) -> str:
        if kind not in _kinds(info):
            raise ValueError(f"there is no kind of source {kind!r}; known: {', '.join(_kinds(info))}")
        return kind

    @field_validator("read", mode="before")
    @classmethod
    def _as_its_kind_reads(cls, read: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("kind")
        return _kinds(info)[kind].options.model_validate(read, context=info.context) if kind else Section()

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> ActionSource:
        if _kinds(info)[self.kind].needs_connection and not self.connection:
            raise ValueError(f"a source of kind {self.kind} needs a connection")
        if self.fields.alert is None and not self.agree_on:
            raise ValueError("without fields.alert, agree_on must name labels to compare")
        return self


@dataclass
class Actions:
    """What was read: the actions by key, the records that are none, and the places of those that are one."""

    known: dict[str, Action] = field(default_factory=dict)
    refused: list[Raw] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def load(sources: Mapping[str, ActionSource], opening: Opening, floor: datetime) -> Actions:
    """Every action since ``floor`` from all sources that are connected; the others are told in the log.

    Raises:
        OpstuneError: a source fails. Without its actions, answers that are known would be taken back.
    """
    found = Actions()
    for name, source in sources.items():
        if source.connection and not opening.connections(source.connection):
            log.info("%s: %s is not joined: there is no connection %s", opening.source, name, source.connection)
            continue
        before = len(found.known), len(found.refused)
        _read(name, source, opening, floor, found)
        known, refused = len(found.known) - before[0], len(found.refused) - before[1]
        log.info("%s: %d actions of %s, %d of its records are none", opening.source, known, name, refused)
    return found


def as_action(name: str, source: ActionSource, record: Mapping[str, Any], now: datetime) -> Action:
    """A raw record as an action.

    Raises:
        ValueError: lists each fault: the field, and what is wrong.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key in ActionFields.model_fields:
        rule: Rule | None = getattr(source.fields, key)
        try:
            found = rule.of(record) if rule else MISSING
            if found not in (MISSING, None, ""):
                values[key] = _TYPED.get(key, str)(found)
            elif key == "id":
                raise ValueError("there is none")
            if key == "at":
                values[key] = milliseconds(moment(found, now))
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if faults:
        raise ValueError("; ".join(faults))
    return Action(f"{name}/{values.pop('id')}", agree_on=tuple(source.agree_on), **values)


def _kinds(info: ValidationInfo) -> Mapping[str, Kind]:
    """The kinds of source that there are; ``mapping`` gives them along, since kinds.py imports this very file."""
    kinds: Mapping[str, Kind] = (info.context or {}).get("kinds", {})
    return kinds


def _read(name: str, source: ActionSource, opening: Opening, floor: datetime, found: Actions) -> None:
    own = opening.connections(source.connection) if source.connection else None
    reader = opening.kinds[source.kind].open(
        source.read,
        Opening(
            opening.source,
            own,
            opening.connections,
            opening.settings,
            opening.home,
            lambda record: _id(source.fields.id, record),
            opening.kinds,
        ),
    )
    now = datetime.now(UTC)
    for raw in _records(reader.read({}, floor)):
        place = f"{name}: {raw.origin}"
        try:
            if raw.fault:
                raise ValueError(raw.fault)
            action = as_action(name, source, raw.record, now)
        except ValueError as error:
            found.refused.append(Raw("", place, raw.record, f"no action: {error}"))
            continue
        found.places.append(place)
        found.known[action.key] = action


def _records(given: Iterable[Any]) -> Iterable[Raw]:
    return (raw for raw in given if isinstance(raw, Raw))


def _id(rule: Rule, record: Mapping[str, Any]) -> str | None:
    try:
        found = rule.of(record)
    except ValueError:
        return None
    return None if found is MISSING else str(found)


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r:.80} is no mapping of names to values")
    return {str(key): str(item) for key, item in value.items()}


def _outcome(value: Any) -> Outcome:
    if value not in get_args(Outcome):
        raise ValueError(f"{value!r:.80} is none of {', '.join(get_args(Outcome))}; map it to one")
    return value  # type: ignore[no-any-return]


def _words(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


_TYPED: Mapping[str, Any] = {
    "labels": _texts,
    "parameters": _texts,
    "outcome": _outcome,
    "notes": _words,
    "at": lambda value: value,
}
