"""What `opstune sources` shows a person, and what it hands to a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opstune.cli import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of incidents that the source alert_rules is told to read, and no other connection."""
    folder = tmp_path / "rules"
    folder.mkdir()
    monkeypatch.setenv("OPSTUNE__CONNECTIONS__OPSTUNE_ALERT_RULES__URL", str(folder))
    return folder


def rows() -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["sources", "check", "--json"])
    return {row["source"]: row for row in json.loads(result.stdout)}


def test_a_source_without_its_connection_is_off_and_says_which(folder: Path) -> None:
    found = rows()["incidents"]
    assert (found["reachable"], found["authorised"]) == (False, None)
    assert found["off"] == "there is no connection opstune_database"


def test_a_connected_source_tells_how_much_is_new(folder: Path) -> None:
    rule = {"service": "disk", "exporter": "node", "alert": "Full", "severity": "critical", "summary": "disk is full"}
    (folder / "rules.jsonl").write_text(json.dumps(rule) + "\nnot json\n")
    found = rows()["alert_rules"]
    assert (found["reachable"], found["authorised"], found["new"], found["refused"]) == (True, True, 1, 1)


def test_a_connected_source_that_fails_is_told_in_words_and_in_the_exit_code(folder: Path) -> None:
    result = CliRunner().invoke(app, ["sources", "check"])
    assert result.exit_code == 1
    assert "alert_rules: no file matches" in result.stdout.replace("\n", " ")


def test_sources_that_are_off_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["sources", "check"])
    assert (result.exit_code, "there is no connection opstune_database" in result.stdout) == (0, True)
