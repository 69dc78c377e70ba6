from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from opstune.errors import IntegrityError
from opstune.registry.ledger import START, Entry, Ledger, extended, standing


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def line(keys: Path, after: Entry | None, to: str) -> Entry:
    """A line that makes ``to`` the champion."""
    moves: dict[str, tuple[str | None, str | None]] = {"champion": (None, to)}
    return Entry(
        at=datetime(2026, 11, 21, tzinfo=UTC), who="anna", action="promote", version=to, bundle="b" * 64, why="better",
        moves=moves, before=after.hash if after else START,
    ).sealed(keys)  # fmt: skip


def test_of_two_claims_to_one_place_the_lower_number_stands(keys: Path) -> None:
    first = line(keys, None, "1.0.0")
    ours, theirs = line(keys, first, "1.1.0"), line(keys, first, "1.0.1")
    after_theirs = line(keys, theirs, "1.2.0")
    claims = {9: ours, 4: theirs, 11: after_theirs, 2: first}
    texts = {number: entry.model_dump_json() for number, entry in claims.items()}
    for known in ([], [first], [first, theirs], [first, theirs, after_theirs]):
        assert extended(known, texts, keys, "queue") == [first, theirs, after_theirs]
    assert standing([first, theirs, after_theirs]) == {"champion": "1.2.0"}


def test_what_stands_on_the_disk_is_not_undone_by_what_mlflow_lost_or_gained(keys: Path) -> None:
    first = line(keys, None, "1.0.0")
    second, late = line(keys, first, "1.1.0"), line(keys, first, "1.0.1")
    assert extended([first, second], {}, keys, "queue") == [first, second]
    assert extended([first, second], {7: late.model_dump_json()}, keys, "queue") == [first, second]


def test_a_claim_by_another_key_is_named(keys: Path, tmp_path: Path) -> None:
    first, forged = line(keys, None, "1.0.0"), line(tmp_path / "mallory", None, "6.6.6")
    with pytest.raises(IntegrityError, match=r"version 3 of ops-ledger in MLflow was made by the key .* set another"):
        extended([first], {3: forged.model_dump_json()}, keys, "ops-ledger")
    with pytest.raises(IntegrityError, match="version 4 of ops-ledger in MLflow cannot be read"):
        extended([first], {4: "{}"}, keys, "ops-ledger")


def test_a_line_that_a_crash_left_half_written_is_no_line(keys: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", keys)
    assert ledger.entries() == []
    ledger.put(1, first := line(keys, None, "1.0.0"))
    (tmp_path / "ledger" / ".000002.json.77.partial").write_text('{"at": "2026-')
    assert ledger.entries() == [first]
    ledger.put(2, second := line(keys, first, "1.1.0"))
    assert ledger.entries() == [first, second]
