"""A place to collect the shipped source ``alert_episodes`` into."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from source_place import SourcePlace

from opstune.examples import Example
from opstune.settings import CollectSettings, Connection, Patience

SOURCE = "alert_episodes"


class AlertPlace(SourcePlace):
    """It goes 40 days back and asks a server twice."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch, SOURCE)
        self.settings = CollectSettings(days_back=40, patience=Patience(attempts=2, backoff_seconds=0))

    def connect(
        self, name: str, url: str, token: str = "", ca_file: Path | None = None, proxy: str | None = None
    ) -> None:
        super().connect(name, url, token)
        more = {"ca_file": ca_file, "proxy": SecretStr(proxy) if proxy else None}
        self.connections[name] = Connection(url=self.connections[name].url, **more)

    def found(self) -> list[tuple[tuple[tuple[str, str], ...], str, str | None]]:
        """What ``Truth.known_as`` is in the examples: labels, start and end of every episode."""
        return sorted((_labels(one), one.metadata["starts_at"], one.metadata.get("ends_at")) for one in self.examples())


def _labels(example: Example) -> tuple[tuple[str, str], ...]:
    named = {"alertname": example.context["alert"], "severity": example.context["severity"]}
    return tuple(sorted({**named, **example.context["labels"]}.items()))
