"""What `opstune keys` and `opstune examples` show of the encrypted store, and to whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from opstune.cli import app
from opstune.errors import ConfigError, IntegrityError
from opstune.examples import Example
from opstune.security import signing
from opstune.store import ExampleStore

SECRET, NEXT = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def example(number: int, source: str = "incidents") -> Example:
    day = datetime(2026, 1, 1 + number, tzinfo=UTC)
    given = {"skill": "triage", "source": source, "context": {}, "answer": {}, "outcome": "success"}
    return Example(id=str(number), source_id=str(number), group_id="g", occurred_at=day, **given)


@pytest.fixture
def store(own_home: Path) -> ExampleStore:
    store = ExampleStore(own_home / "examples")
    store.upsert([example(0), example(1), example(2, "alerts")])
    return store


def ask(*words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--json"])
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def masters() -> dict[str, tuple[int, bool]]:
    return {
        row["kept_in"]: (row["wraps_parts"], row["needed"])
        for row in ask("keys", "show")["keys"]
        if row["what"] == "master"
    }


def test_an_empty_home_has_no_keys_and_showing_makes_none(own_home: Path) -> None:
    assert ask("keys", "show") == {"keys": [], "unencrypted_parts": 0}
    assert not (own_home / "keys").exists()


def test_every_key_is_shown_with_what_it_wraps_and_none_is_told(own_home: Path, store: ExampleStore) -> None:
    signing.ensure_key(own_home / "keys")
    rows = ask("keys", "show")["keys"]
    assert [(row["what"], row["wraps_parts"], row["needed"]) for row in rows] == [
        ("master", 3, True),
        ("data", 3, True),
        ("signing", None, True),
    ]
    assert all(row["age_days"] == 0 for row in rows)
    (file,) = (own_home / "keys").glob("store-*.key")
    shown = CliRunner().invoke(app, ["keys", "show"]).stdout + json.dumps(rows)
    assert file.read_text().strip() not in shown


def test_a_rotation_says_which_key_is_needed_no_more(own_home: Path, store: ExampleStore) -> None:
    (old,) = masters()
    told = ask("keys", "rotate")
    assert told["no_longer_needed"] == [old] and told["encrypted_parts"] == 0
    assert masters() == {old: (0, False), f"store-{told['master']}.key": (3, True)}
    (own_home / "keys" / old).unlink()
    assert len(store.read()) == 3


def test_a_secret_comes_from_its_connection_and_rotates_through_the_previous_one(
    own_home: Path, store: ExampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "OPSTUNE__CONNECTIONS__OPSTUNE_STORE_KEY__URL"
    monkeypatch.setenv(variable, f"generic://:{SECRET}@")
    ask("keys", "rotate")
    for file in (own_home / "keys").glob("store-*.key"):
        file.unlink()
    assert masters() == {"opstune_store_key": (3, True)}
    monkeypatch.setenv(variable, f"generic://opstune:{NEXT}@")
    with pytest.raises(IntegrityError, match="opstune_store_key_previous"):
        ask("examples", "stats")
    monkeypatch.setenv("OPSTUNE__CONNECTIONS__OPSTUNE_STORE_KEY_PREVIOUS__URL", f"generic://:{SECRET}@")
    assert len(ask("examples", "stats")) == 2
    assert ask("keys", "rotate")["no_longer_needed"] == ["opstune_store_key_previous"]
    monkeypatch.delenv("OPSTUNE__CONNECTIONS__OPSTUNE_STORE_KEY_PREVIOUS__URL")
    assert masters() == {"opstune_store_key": (3, True)}
    assert not list((own_home / "keys").glob("store-*.key"))


def test_a_connection_without_a_password_is_a_wrong_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSTUNE__CONNECTIONS__OPSTUNE_STORE_KEY__URL", "generic://host")
    with pytest.raises(ConfigError, match="opstune_store_key has no password"):
        ask("keys", "show")


def test_examples_are_counted_by_source_skill_and_outcome(store: ExampleStore) -> None:
    assert ask("examples", "stats") == [
        {"source": "alerts", "skill": "triage", "outcome": "success", "examples": 1},
        {"source": "incidents", "skill": "triage", "outcome": "success", "examples": 2},
    ]
