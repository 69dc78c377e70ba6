"""A place whose examples go to Label Studio and come back: its own store and its own projects on the shared server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from label_studio import People, connection

from opstune import pipeline, settings
from opstune.annotate import PullReport, PushReport
from opstune.annotate.forms.base import Json, chosen, rated
from opstune.annotated import joined
from opstune.examples import Example, example_id
from opstune.settings import Settings, config_dir
from opstune.store import ExampleStore

START = datetime(2026, 11, 1, tzinfo=UTC)
RESTART = [*chosen("action", "run a function"), *chosen("function", "restart_pod")]
LEAVE = chosen("action", "leave it alone")
UNSURE = chosen("action", "cannot say")
CONTEXTS: dict[str, Json] = {
    "remediation": {"alert": "PodCrashLooping", "labels": {"namespace": "shop", "pod": "cart-1"}},
    "triage": {"title": "Checkout is slow", "symptom": "p99 above 4 s"},
    "log_error": {"log": "INFO begin\nERROR no route to db-1:5432\nINFO end", "job": "nightly"},
    "diagnosis": {"symptoms": ["orders time out"], "telemetry": {"latency": "4 s"}},
}
ANSWERS: dict[str, Json] = {
    "remediation": {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-1"}},
    "triage": {"severity": "SEV-1", "root_cause": "the cache of cart-1 was full"},
    "log_error": {"message": "no route to db-1:5432", "category": "network", "severity": "high", "confidence": "high"},
    "diagnosis": {"root_cause": "orders waits for locks of stock", "query": 'rate(locks{db="stock"}[5m])'},
}


def alert(number: int, **changes: Any) -> Example:
    """The ``number``-th alert; nobody knows yet what to do about it."""
    fields: dict[str, Any] = {
        "id": example_id("alerts", str(number), "remediation"),
        "skill": "remediation",
        "source": "alerts",
        "source_id": str(number),
        "group_id": f"incident-{number}",
        "occurred_at": START + timedelta(minutes=number),
        "context": {"alert": f"Alert{number}", "labels": {"namespace": "shop", "pod": f"cart-{number}"}},
        "answer": {},
    }
    return Example(**{**fields, **changes})


def answered(skill: str) -> Example:
    """An example of any skill whose answer is known."""
    changes = {"skill": skill, "context": CONTEXTS[skill], "answer": ANSWERS[skill], "outcome": "success"}
    return alert(1, id=example_id("alerts", "1", skill), **changes)


class Place:
    """One home, one configuration, one store."""

    def __init__(self, folder: Path, url: str, patch: pytest.MonkeyPatch, people: People | None = None) -> None:
        config = folder / "config"
        shutil.copytree(config_dir(), config)
        file = config / "label_studio" / "projects.yaml"
        found = yaml.safe_load(file.read_text())
        self.titles = {name: f"{folder.name} {name}" for name in found["projects"]}
        for name, project in found["projects"].items():
            project["title"] = self.titles[name]
        file.write_text(yaml.safe_dump(found))
        patch.setenv("OPSTUNE_CONFIG", str(config))
        self.config, self.url, self._people = config, url, people
        self._home = os.environ["OPSTUNE_HOME"]
        self.store = ExampleStore(self.settings().examples_dir, pipeline.keyring(self.settings()))

    def settings(self, **changes: Any) -> Settings:
        patience = {"attempts": 2, "backoff_seconds": 0, "timeout_seconds": changes.pop("timeout", 60)}
        asked = {"audit_share": 0.0, "ask_champion": False, "patience": patience, **changes}
        connections = {pipeline.LABEL_STUDIO: self._connection()}
        return settings.load({"home": self._home, "annotate": asked, "connections": connections})

    def push(self, project: str = "remediation", **changes: Any) -> PushReport:
        return pipeline.push_annotation(project, self.settings(**changes))

    def pull(self, project: str = "remediation", **changes: Any) -> PullReport:
        return pipeline.pull_annotation(project, self.settings(**changes))

    def read(self) -> dict[str, Example]:
        """What the dataset would see, by source id."""
        return {example.source_id: example for example in joined(self.store.read())}

    def tasks(self, project: str = "remediation") -> dict[str, dict[str, Any]]:
        """Tasks with their annotations, by the number of the alert; fails on a double."""
        found = self.people.tasks(self.titles[project])
        numbers = {example.id: example.source_id for example in self.store.read()}
        return {numbers[example_id]: task for example_id, task in found.items()}

    @property
    def people(self) -> People:
        assert self._people
        return self._people

    def annotate(self, numbers: Iterable[int], result: list[Json], by: str, stars: int = 0) -> None:
        tasks, given = self.tasks(), [*result, *(rated("quality", stars) if stars else [])]
        self.people.join(by)
        with ThreadPoolExecutor(4) as pool:  # a person's click takes the server a third of a second
            list(pool.map(lambda number: self.people.annotate(tasks[str(number)]["id"], given, by), numbers))

    def _connection(self) -> dict[str, Any]:
        return {"url": connection(self.url).url.get_secret_value()}
