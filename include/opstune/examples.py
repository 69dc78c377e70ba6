"""Example, the one record that every stage speaks."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Outcome = Literal["success", "failure", "unknown"]


def _as_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Example(BaseModel):
    """One thing that happened and what the right answer to it was.

    ``context`` is the structured input that the skill renders into a prompt; ``answer`` is the
    structured target, valid under the skill's schema. ``group_id`` names the incident: what must
    never stand on two sides of a split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    skill: str
    source: str
    source_id: str
    group_id: str
    occurred_at: Annotated[datetime, AfterValidator(_as_utc)]
    context: dict[str, Any]
    answer: dict[str, Any]
    outcome: Outcome = "unknown"
    human_validated: bool = False
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    annotator: str | None = None
    corrections: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


def example_id(source: str, source_id: str, skill: str) -> str:
    """The sha256 over source, source id and skill: the same record is the same example for ever."""
    return hashlib.sha256("\x1f".join((source, source_id, skill)).encode()).hexdigest()


def what_is_wrong(error: ValidationError) -> str:
    """Every fault of a record that a model refused: key and rule, never the value itself, which may be private."""
    told = error.errors(include_url=False, include_context=False, include_input=False)
    faults = ((".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) for fault in told)
    return "; ".join(f"{key}: {rule}" if key else rule for key, rule in faults)
