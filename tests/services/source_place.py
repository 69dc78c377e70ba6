"""A place to collect one shipped source into, its options changed as a test wants."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from opstune.collect import Quarantine, SourceCheck, SourceReport, check, pull
from opstune.collect.watermark import Watermark, load
from opstune.examples import Example
from opstune.settings import CollectSettings, Connection, Patience, config_dir
from opstune.store import ExampleStore


class SourcePlace:
    """``connections`` maps names to connections; ``settings`` goes far back and asks a server twice, at once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
        self.source = source
        self.home = folder / "state"
        self.store = self.home / "examples"
        self.connections: dict[str, Connection] = {}
        patience = Patience(attempts=2, backoff_seconds=0, timeout_seconds=5)
        self.settings = CollectSettings(days_back=4000, overlap_minutes=0, patience=patience)
        self._config = folder / "config"
        shutil.copytree(config_dir(), self._config)
        monkeypatch.setenv("OPSTUNE_CONFIG", str(self._config))

    def connect(self, name: str, url: str, token: str = "") -> None:
        """``token`` becomes a password without a login, as connections keep keys."""
        url = url.replace("://", f"://:{token}@") if token else url
        self.connections[name] = Connection(url=SecretStr(url))

    def patient(self, **changes: Any) -> None:
        patience = self.settings.patience.model_copy(update=changes)
        self.settings = self.settings.model_copy(update={"patience": patience})

    def options(self, **changes: Any) -> None:
        """Change what stands under ``read`` in the source file."""
        file = self._config / "sources" / f"{self.source}.yaml"
        rules = yaml.safe_load(file.read_text())
        rules["read"].update(changes)
        file.write_text(yaml.safe_dump(rules))

    def pull(self, since: datetime | None = None) -> SourceReport:
        return pull(self.source, self.store, self.settings, self.connections.get, self.home, since)

    def check(self) -> SourceCheck:
        return check(self.source, self.store, self.settings, self.connections.get, self.home)

    def examples(self) -> list[Example]:
        return ExampleStore(self.store).read()

    def refused(self) -> list[str]:
        """Why records stand in quarantine."""
        return [entry.reason for entry in Quarantine(self.store, self.source).entries()]

    def watermark(self) -> Watermark | None:
        return load(self.store, self.source)
