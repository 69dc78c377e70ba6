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
from opstune.collect.rules import MISSING, Rule, RuleOrPath, look_up, moment
from opstune.errors import ConfigError, DataError
from opstune.examples import Example, example_id
from opstune.settings import Section, config_dir, read_model
from opstune.skills.functions import functions

#: Characters of a wrong value that a reason quotes.
_SHOWN = 80


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
    """How the example's own fields come about."""

    source_id: RuleOrPath
    group_id: RuleOrPath
    occurred_at: RuleOrPath
    outcome: RuleOrPath | None = None
    human_validated: RuleOrPath | None = None
    rating: RuleOrPath | None = None
    annotator: RuleOrPath | None = None
    notes: RuleOrPath | None = None


class SourceMapping(Section):
    """One source: where its records are (``kind``, ``connection``, ``read``) and how one becomes an example.

    ``when`` chooses the records that concern it. Where ``answer_when`` does not hold nobody knows the answer
    yet: the example is kept without one, for people to annotate.
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
        return None if found is MISSING else str(found)

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
        own = {name: rule for name in Fields.model_fields if (rule := getattr(self.mapping.fields, name))}
        values = self._values("", own, record, faults)
        context = self._checked("context", self.mapping.context, self.skill.context_model, record, faults)
        answer = {}
        if all(condition.holds(record) for condition in self.mapping.answer_when):
            answer = self._checked("answer", self.mapping.answer, self.skill.answer_model, record, faults)
        metadata = self._values("metadata.", self.mapping.metadata, record, faults)
        try:
            values["occurred_at"] = moment(values.get("occurred_at"), now)
        except ValueError as error:
            faults.append(f"occurred_at: {error}")
        if not faults:
            values["source_id"], values["group_id"] = str(values["source_id"]), str(values["group_id"])
            key = example_id(self.source, values["source_id"], self.skill.name)
            try:
                return Example(
                    id=key,
                    skill=self.skill.name,
                    source=self.source,
                    context=context,
                    answer=answer,
                    metadata=metadata,
                    **values,
                )
            except ValidationError as error:
                faults += _told("", error)
        todo = f"Correct the record, or config/sources/{self.source}.yaml, and collect again."
        raise DataError("; ".join(faults), self.name(record) or "a record without an id", todo)

    def _values(
        self, prefix: str, rules: Mapping[str, Rule], record: Mapping[str, Any], faults: list[str]
    ) -> dict[str, Any]:
        values = {}
        for name, rule in rules.items():
            try:
                found = rule.of(record)
            except ValueError as error:
                faults.append(f"{prefix}{name}: {error}")
                continue
            if found is not MISSING:
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
        got = repr(fault["input"])
        got = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}..."
        told.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}, got {got}")
    return told
