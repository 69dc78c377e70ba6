"""A place to collect into, with one source of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from opstune.collect import SourceReport, pull
from opstune.examples import Example
from opstune.settings import CollectSettings, Connection
from opstune.store import ExampleStore

RULES: dict[str, Any] = {
    "kind": "files",
    "connection": "opstune_files",
    "read": {"path": "incidents*.jsonl"},
    "skill": "triage",
    "fields": {"source_id": "id", "group_id": "id", "occurred_at": "at"},
    "context": {"title": "title"},
    "answer": {"severity": {"from": "level", "map": {"high": "SEV-1", "low": "SEV-3"}}},
}


def record(number: int, **changes: Any) -> dict[str, Any]:
    base = {
        "id": f"I-{number}",
        "at": f"2026-01-{number % 28 + 1:02d}T10:00:00Z",
        "title": f"incident {number}",
        "level": "high",
    }
    return {**base, **changes}


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return path


class Place:
    """A home with one source called ``history``, its files under ``data``, its connections in a mapping."""

    def __init__(self, home: Path, config: Path) -> None:
        self.home, self.config = home, config
        self.data, self.store = home / "data", home / "examples"
        self.connections: dict[str, str] = {"opstune_files": str(self.data)}
        self.settings = CollectSettings()

    def connection(self, name: str) -> Connection | None:
        url = self.connections.get(name)
        return Connection(url=SecretStr(url)) if url else None

    def rules(self, rules: dict[str, Any], source: str = "history") -> None:
        (self.config / "sources" / f"{source}.yaml").write_text(yaml.safe_dump(rules))

    def write(self, *records: Any, name: str = "incidents.jsonl") -> Path:
        return write_lines(self.data / name, records)

    def pull(self, source: str = "history", since: datetime | None = None) -> SourceReport:
        return pull(source, self.store, self.settings, self.connection, self.home, since)

    def examples(self) -> list[Example]:
        return ExampleStore(self.store).read()
