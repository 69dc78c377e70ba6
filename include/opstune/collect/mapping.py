"""Source files: ``config/sources/<source>.yaml`` says where records are and how one becomes an Example."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from opstune import skills
from opstune.artifacts import fingerprint
from opstune.collect.kinds import KINDS
from opstune.collect.plain import plain, shown
from opstune.collect.rules import MISSING, Rule, RuleOrPath, look_up, moment
from opstune.errors import ConfigError, DataError
from opstune.examples import Example, example_id
from opstune.settings import Section, config_dir, read_model
from opstune.skills.functions import functions

#: The key whose value is a mapping of keys and values, as many as it has; keys that follow win.
_ALL = "*"


class Condition(Section):
    """What must hold of a record. ``exists`` asks for a value that says something: an empty text is none."""

    field: str
    among: list[Any] | None = Field(None, alias="in")
    exists: bool | None = None

    def holds(self, record: Mapping[str, Any]) -> bool:
        found = look_up(record, self.field)
        if self.exists is not None and (found is not MISSING and found not in ("", [], {})) != self.exists:
            return False
        return self.among is None or found in self.among


class Fields(Section):
    """How the example's own fields come about. The first three cannot be left out."""

    source_id: RuleOrPath
    group_id: RuleOrPath
    occurred_at: RuleOrPath
    outcome: RuleOrPath | None = None
    human_validated: RuleOrPath | None = None
    rating: RuleOrPath | None = None
    annotator: RuleOrPath | None = None
    notes: RuleOrPath | None = None

    @field_validator("source_id", "group_id", "occurred_at")
    @classmethod
    def _is_needed(cls, rule: Rule) -> Rule:
        if rule.optional:
            raise ValueError("it cannot be optional: every example has one")
        return rule


class SourceMapping(Section):
    """One source: where its records are (``kind``, ``connection``, ``read``) and how one becomes an example.

    ``when`` chooses the records that concern it. Where ``answer_when`` does not hold nobody knows the answer
    yet: the example is kept without one, for people to annotate. ``corrections`` holds what was there before a
    person corrected it. The key ``"*"`` stands for all that a mapping holds.
    """

    kind: str
    connection: str | None = None
    read: SerializeAsAny[Section] = Field(default_factory=dict, validate_default=True)
    skill: str
    when: list[Condition] = Field(default_factory=list)
    fields: Fields
    context: dict[str, RuleOrPath]
    answer: dict[str, RuleOrPath]
    answer_when: list[Condition] = Field(default_factory=list)
    corrections: dict[str, RuleOrPath] = Field(default_factory=dict)
    metadata: dict[str, RuleOrPath] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no kind of source {kind!r}; known: {', '.join(KINDS)}")
        return kind

    @field_validator("read", mode="before")
    @classmethod
    def _as_its_kind_reads(cls, read: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("kind")
        return KINDS[kind].options.model_validate(read, context={"kinds": KINDS}) if kind else Section()

    @model_validator(mode="after")
    def _complete(self) -> SourceMapping:
        if self.skill not in skills.SKILLS:
            raise ValueError(f"there is no skill {self.skill!r}; known: {', '.join(skills.SKILLS)}")
        if KINDS[self.kind].needs_connection and not self.connection:
            raise ValueError(f"a source of kind {self.kind} needs a connection")
        return self


def source_names() -> list[str]:
    """Every source that has a file in ``config/sources/``."""
    return sorted(path.stem for path in (config_dir() / "sources").glob("*.yaml"))


def load(source: str) -> Mapper:
    """The mapping of a source.

    Raises:
        ConfigError: there is no such source, or its file has faults, all of them listed.
    """
    file = config_dir() / "sources" / f"{source}.yaml"
    if not re.fullmatch(r"[a-z0-9_]+", source) or not file.is_file():
        raise ConfigError(f"there is no source {source!r}", str(file.parent), f"Known: {', '.join(source_names())}.")
    return Mapper(source, read_model(file, SourceMapping))


class Mapper:
    """Turns one source's raw records into examples."""

    def __init__(self, source: str, mapping: SourceMapping) -> None:
        self.source = source
        self.mapping = mapping
        self.skill = skills.get(mapping.skill)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with all that decides how a record is read: then history is read again."""
        answer, context = self.skill.answer_model.model_json_schema(), self.skill.context_model.model_json_schema()
        return fingerprint([self.mapping.model_dump(by_alias=True), answer, context, functions()])

    def concerns(self, record: Mapping[str, Any]) -> bool:
        return all(condition.holds(record) for condition in self.mapping.when)

    def name(self, record: Mapping[str, Any]) -> str | None:
        """The record's own id where it has one, for the quarantine."""
        try:
            found = self.mapping.fields.source_id.of(record)
        except ValueError:
            return None
        return None if found is MISSING else str(plain(str(found)))

    def happened(self, record: Mapping[str, Any], now: datetime) -> datetime | None:
        """When the record happened, or none if it does not tell."""
        try:
            return moment(self.mapping.fields.occurred_at.of(record), now)
        except ValueError:
            return None

    def example(self, record: Mapping[str, Any], now: datetime) -> Example:
        """The record as an example whose context and answer are valid under the skill.

        Raises:
            DataError: lists each fault: the key, what was found, what was expected.
        """
        faults: list[str] = []
        try:
            record = plain(record)
        except ValueError as error:
            raise self._refused(record, [str(error)]) from error
        values = self._own(record, now, faults)
        context = self._checked("context", self.mapping.context, self.skill.context_model, record, faults)
        answer = {}
        if all(condition.holds(record) for condition in self.mapping.answer_when):
            answer = self._checked("answer", self.mapping.answer, self.skill.answer_model, record, faults)
        corrections = self._values("corrections.", self.mapping.corrections, record, faults)
        metadata = self._values("metadata.", self.mapping.metadata, record, faults)
        if faults:
            raise self._refused(record, faults)
        try:
            return Example(
                id=example_id(self.source, values["source_id"], self.skill.name),
                skill=self.skill.name,
                source=self.source,
                context=context,
                answer=answer,
                corrections=corrections,
                metadata=metadata,
                **values,
            )
        except ValidationError as error:
            raise self._refused(record, _told("", error)) from error

    def _refused(self, record: Mapping[str, Any], faults: list[str]) -> DataError:
        todo = f"Correct the record, or config/sources/{self.source}.yaml, and collect again."
        return DataError("; ".join(faults), self.name(record) or "a record without an id", todo)

    def _own(self, record: Mapping[str, Any], now: datetime, faults: list[str]) -> dict[str, Any]:
        """The example's own fields; ids as text, which must not be empty."""
        rules = {name: rule for name in Fields.model_fields if (rule := getattr(self.mapping.fields, name))}
        values = self._values("", rules, record, faults)
        for name in ("source_id", "group_id"):
            if name in values:
                values[name] = str(values[name])
            if not values.get(name, "-").strip():
                faults.append(f"{name} is empty")
        if "occurred_at" in values:
            try:
                values["occurred_at"] = moment(values["occurred_at"], now)
            except ValueError as error:
                faults.append(f"occurred_at: {error}")
        return values

    def _values(
        self, prefix: str, rules: Mapping[str, Rule], record: Mapping[str, Any], faults: list[str]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, rule in rules.items():
            try:
                found = rule.of(record)
            except ValueError as error:
                faults.append(f"{prefix}{name}: {error}")
                continue
            if name == _ALL and isinstance(found, Mapping):
                values.update(found)
            elif name == _ALL and found is not MISSING:
                faults.append(f"{prefix}{name}: a mapping is expected, got {shown(found)}")
            elif found is not MISSING:
                values[name] = found
            elif not rule.optional:
                faults.append(f"{prefix}{name}: {rule.path or rule.template} is missing")
        return values

    def _checked(
        self, part: str, rules: Mapping[str, Rule], model: type[BaseModel], record: Mapping[str, Any], faults: list[str]
    ) -> dict[str, Any]:
        before = len(faults)
        values = self._values(f"{part}.", rules, record, faults)
        if len(faults) > before:
            return {}
        try:
            return model.model_validate(values).model_dump(mode="json", exclude_unset=True)
        except ValidationError as error:
            faults += _told(part, error)
            return {}


def _told(prefix: str, error: ValidationError) -> list[str]:
    """Each fault of a validation in words; long values cut."""
    told = []
    for fault in error.errors():
        key = ".".join([prefix, *map(str, fault["loc"])]).strip(".")
        told.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}, got {shown(fault['input'])}")
    return told
