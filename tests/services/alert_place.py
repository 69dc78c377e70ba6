"""A place to collect the shipped source ``alert_episodes`` into, its options changed as a test wants."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from opstune.collect import SourceCheck, SourceReport, check, pull
from opstune.examples import Example
from opstune.settings import CollectSettings, Connection, Patience, config_dir
from opstune.store import ExampleStore

SOURCE = "alert_episodes"


class AlertPlace:
    """``connections`` maps names to connections; ``settings`` goes 40 days back and asks a server twice."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "state"
        self.store = self.home / "examples"
        self.connections: dict[str, Connection] = {}
        self.settings = CollectSettings(days_back=40, patience=Patience(attempts=2, backoff_seconds=0))
        self._config = folder / "config"
        shutil.copytree(config_dir(), self._config)
        monkeypatch.setenv("OPSTUNE_CONFIG", str(self._config))

    def connect(self, name: str, url: str, **more: Any) -> None:
        self.connections[name] = Connection(url=SecretStr(url), **more)

    def options(self, **changes: Any) -> None:
        """Change what stands under ``read`` in the source file."""
        file = self._config / "sources" / f"{SOURCE}.yaml"
        rules = yaml.safe_load(file.read_text())
        rules["read"].update(changes)
        file.write_text(yaml.safe_dump(rules))

    def pull(self, since: datetime | None = None) -> SourceReport:
        return pull(SOURCE, self.store, self.settings, self.connections.get, self.home, since)

    def check(self) -> SourceCheck:
        return check(SOURCE, self.store, self.settings, self.connections.get, self.home)

    def examples(self) -> list[Example]:
        return ExampleStore(self.store).read()

    def found(self) -> list[tuple[tuple[tuple[str, str], ...], str, str | None]]:
        """What ``Truth.known_as`` is in the examples: labels, start and end of every episode."""
        return sorted(
            (
                tuple(sorted({**_labels(one), **one.context["labels"]}.items())),
                one.metadata["starts_at"],
                one.metadata.get("ends_at"),
            )
            for one in self.examples()
        )


def _labels(example: Example) -> dict[str, str]:
    return {"alertname": example.context["alert"], "severity": example.context["severity"]}
