"""A place to collect one source of the kinds ``database`` and ``clickhouse`` into: incidents in a table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from opstune.collect import SourceCheck, SourceReport, check, pull
from opstune.collect import mapping as mapping_file
from opstune.collect.kinds import KINDS
from opstune.collect.source import Opening, Reader
from opstune.examples import Example
from opstune.settings import CollectSettings, Connection, Patience, config_dir
from opstune.store import ExampleStore

SOURCE = "history"
#: ``watermark`` and ``query`` are the test's.
RULES: dict[str, Any] = {
    "skill": "triage",
    "fields": {"source_id": "id", "group_id": "id", "occurred_at": "at"},
    "context": {"title": "title"},
    "answer": {"severity": {"from": "level", "map": {"high": "SEV-1", "low": "SEV-3"}}},
}


class QueryPlace:
    """One source called ``history`` of the given kind, on the connection ``opstune_history``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, query: str) -> None:
        self.home = folder / "state"
        self.store = self.home / "examples"
        self.kind, self.query = kind, query
        self.settings = CollectSettings(patience=Patience(attempts=2, backoff_seconds=0, timeout_seconds=20))
        self._config = folder / "config"
        self._url = ""
        (self._config / "sources").mkdir(parents=True)
        for file in config_dir().glob("*.yaml"):
            shutil.copy(file, self._config)
        monkeypatch.setenv("OPSTUNE_CONFIG", str(self._config))
        self.rules()

    def rules(self, **changes: Any) -> None:
        read = {"query": self.query, "watermark": "updated_at", **changes.pop("read", {})}
        rules = {"kind": self.kind, "connection": "opstune_history", "read": read, **RULES, **changes}
        (self._config / "sources" / f"{SOURCE}.yaml").write_text(yaml.safe_dump(rules))

    def connect(self, url: str) -> None:
        self._url = url

    def patience(self, **changes: Any) -> None:
        patience = self.settings.patience.model_copy(update=changes)
        self.settings = self.settings.model_copy(update={"patience": patience})

    def connection(self, name: str) -> Connection | None:
        return Connection(url=SecretStr(self._url)) if name == "opstune_history" else None

    def pull(self, since: datetime | None = None) -> SourceReport:
        return pull(SOURCE, self.store, self.settings, self.connection, self.home, since)

    def check(self) -> SourceCheck:
        return check(SOURCE, self.store, self.settings, self.connection, self.home)

    def reader(self) -> Reader:
        mapper = mapping_file.load(SOURCE)
        opened = self.connection("opstune_history")
        name: Callable[[Any], str | None] = mapper.name
        opening = Opening(SOURCE, opened, self.connection, self.settings, self.home, name)
        return KINDS[self.kind].open(mapper.mapping.read, opening)

    def examples(self) -> list[Example]:
        return ExampleStore(self.store).read()

    def ids(self) -> set[str]:
        return {one.source_id for one in self.examples()}
