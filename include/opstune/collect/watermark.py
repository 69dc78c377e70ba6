"""How far a source has been read: written only after everything before it is in the store."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opstune.artifacts import write_text
from opstune.errors import IntegrityError


class Watermark(BaseModel):
    """``mapping`` is the fingerprint of the rules it was read with, ``floor`` the oldest moment of interest,
    ``position`` whatever the reader needs to go on from here, ``collected_at`` when it was last read to its end."""

    model_config = ConfigDict(extra="forbid")

    mapping: str
    floor: datetime
    position: dict[str, Any] = Field(default_factory=dict)
    collected_at: datetime | None = None


def path_of(store: Path, source: str) -> Path:
    return store / "watermarks" / f"{source}.json"


def load(store: Path, source: str) -> Watermark | None:
    """The watermark of a source, or none before the first collection.

    Raises:
        IntegrityError: the file cannot be read.
    """
    path = path_of(store, source)
    try:
        return Watermark.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        todo = "Remove it: the source is then read from the start, and nothing is stored twice."
        raise IntegrityError(f"{path} is damaged", source, todo) from error


def save(store: Path, source: str, mark: Watermark) -> None:
    write_text(path_of(store, source), mark.model_dump_json(indent=1))
