from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from opstune.artifacts import Ref, verify
from opstune.collect import snapshot
from opstune.errors import IntegrityError
from opstune.examples import Example, example_id
from opstune.security.vault import Vault
from opstune.store import ExampleStore, read_snapshot

DAY = datetime(2026, 1, 5, 12, tzinfo=UTC)


def example(number: int, **changes: Any) -> Example:
    base: dict[str, Any] = {
        "id": example_id("s", str(number), "triage"),
        "skill": "triage",
        "source": "s",
        "source_id": str(number),
        "group_id": f"g{number}",
        "occurred_at": DAY,
        "context": {"title": f"incident {number}"},
        "answer": {"severity": "SEV-2"},
    }
    return Example(**{**base, **changes})


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    given = [example(1), example(2, occurred_at=DAY.replace(day=6), metadata={"by": "mira"}, rating=4)]
    ExampleStore(tmp_path).upsert(given)
    assert ExampleStore(tmp_path).read() == given


def test_an_empty_store_reads_as_nothing(tmp_path: Path) -> None:
    assert ExampleStore(tmp_path / "none").read() == []


def test_only_new_and_changed_examples_are_written(tmp_path: Path) -> None:
    ExampleStore(tmp_path).upsert([example(1), example(2)])
    counts = ExampleStore(tmp_path).upsert([example(1), example(2, notes="reviewed"), example(3)])
    assert counts == (1, 1, 1)
    assert sum(part.rows for part in ExampleStore(tmp_path).listing()) == 4


def test_an_upsert_of_what_is_there_writes_no_file(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    store.upsert([example(1)])
    before = store.parts()
    assert store.upsert([example(1)]) == (0, 0, 1)
    assert store.parts() == before


def test_the_latest_version_counts_even_when_it_moved_to_an_earlier_day(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    store.upsert([example(1)])
    store.upsert([example(1, occurred_at=DAY.replace(day=2), notes="the clock was wrong")])
    assert [found.notes for found in store.read()] == ["the clock was wrong"]


def test_going_back_to_an_older_version_is_a_change(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    for notes in ("first", "second", "first"):
        store.upsert([example(1, notes=notes)])
    assert [found.notes for found in store.read()] == ["first"]


def test_of_two_versions_in_one_upsert_the_last_counts(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    assert store.upsert([example(1, notes="a"), example(1, notes="b")]) == (1, 0, 0)
    assert [found.notes for found in store.read()] == ["b"]


def test_comparing_stores_nothing(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    assert store.compare([example(1)]) == (1, 0, 0)
    assert store.parts() == []


def test_parts_stand_by_source_and_day_and_carry_their_hash(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    store.upsert([example(1), example(2, occurred_at=DAY.replace(day=7))])
    assert [str(path.parent.relative_to(tmp_path)) for path in store.parts()] == [
        "source=s/day=2026-01-05",
        "source=s/day=2026-01-07",
    ]
    listed = store.listing()
    assert all(part.sha256.startswith(Path(part.path).stem.split("-")[2]) for part in listed)


def test_a_half_written_part_is_not_read(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path)
    store.upsert([example(1)])
    part = store.parts()[0]
    part.with_name(f".{part.name}.77.partial").write_bytes(b"PAR1")
    assert len(ExampleStore(tmp_path).read()) == 1


SPREAD = [
    example(1),
    example(2, source="other", id="other-2"),
    example(3, skill="log_error", id="log-3"),
    example(4, occurred_at=DAY.replace(day=8)),
    example(5, occurred_at=DAY.replace(day=8, hour=6)),
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {"1", "2", "3", "4", "5"}),
        ({"sources": ["other"]}, {"2"}),
        ({"sources": []}, set()),
        ({"sources": ["s"], "skills": ["triage"]}, {"1", "4", "5"}),
        ({"skills": ["log_error"]}, {"3"}),
        ({"skills": ["diagnosis"]}, set()),
        ({"since": DAY.replace(day=8)}, {"4"}),
        ({"since": DAY.replace(day=8).astimezone(timezone(timedelta(hours=14)))}, {"4"}),
        ({"since": DAY.replace(day=8, tzinfo=None)}, {"4"}),
        ({"since": DAY.replace(day=9)}, set()),
        ({"since": DAY.replace(day=8, hour=0), "skills": ["triage"], "sources": ["s", "other"]}, {"4", "5"}),
    ],
)
def test_a_narrow_read_finds_what_a_wide_one_would(tmp_path: Path, asked: dict[str, Any], found: set[str]) -> None:
    ExampleStore(tmp_path / "examples").upsert(SPREAD)
    assert {one.source_id for one in ExampleStore(tmp_path / "examples").read(**asked)} == found


def _opened(monkeypatch: pytest.MonkeyPatch, read: Callable[[], object]) -> list[tuple[str, set[str]]]:
    """Every part that a read opens, by place, and the columns that it decrypts."""
    opened, plainly = [], Vault.read

    def noting(self: Vault, path: Path, columns: Sequence[str] | None = None) -> object:
        opened.append((str(path.parent.relative_to(self.root)), set(columns or ["*"])))
        return plainly(self, path, columns)

    with monkeypatch.context() as patch:
        patch.setattr(Vault, "read", noting)
        read()
    return opened


def test_a_narrow_read_opens_only_its_partitions_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ExampleStore(tmp_path / "examples")
    store.upsert(SPREAD)
    by_source = _opened(monkeypatch, lambda: store.read(sources=["other"]))
    assert {place for place, _ in by_source} == {"source=other/day=2026-01-05"}
    by_day = _opened(monkeypatch, lambda: store.read(since=DAY.replace(day=8)))
    assert {place for place, _ in by_day} == {"source=s/day=2026-01-08"}
    counted = _opened(monkeypatch, lambda: store.table(["source", "outcome"]))
    assert all(columns == {"source", "outcome", "id", "skill", "occurred_at"} for _, columns in counted)
    by_skill = _opened(monkeypatch, lambda: store.read(skills=["log_error"]))
    assert [place for place, columns in by_skill if "context" in columns] == ["source=s/day=2026-01-05"]


def test_a_narrow_read_knows_that_an_example_moved_out_of_its_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ExampleStore(tmp_path / "examples")
    store.upsert([example(1, occurred_at=DAY.replace(day=3)), example(2), example(3)])
    store.upsert([example(2, occurred_at=DAY.replace(day=1), notes="the clock was wrong")])
    opened = _opened(monkeypatch, lambda: store.read(since=DAY.replace(day=5, hour=0)))
    assert [one.source_id for one in store.read(since=DAY.replace(day=5, hour=0))] == ["3"]
    assert ("source=s/day=2026-01-01", {"id"}) in opened
    assert not any(place.endswith("day=2026-01-03") for place, _ in opened)


def _write_many(root: Path, writer: int) -> None:
    store = ExampleStore(root)
    for turn in range(5):
        store.upsert([example(100 * writer + turn), example(7, notes=f"{writer} {turn}")])


def _rotate_often(root: Path, _writer: int) -> None:
    for _ in range(3):
        ExampleStore(root).rotate()


def _read_often(root: Path, _writer: int) -> None:
    seen = 0
    for _ in range(10):
        found = len(ExampleStore(root).read())
        assert found >= seen, "a reader lost what it had seen"
        seen = found


def test_writers_readers_and_rotations_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    work = [(_write_many, 1), (_write_many, 2), (_write_many, 3), (_rotate_often, 0), (_read_often, 0)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=task, args=(root, writer)) for task, writer in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    store = ExampleStore(root)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0, 0]
    assert len(store.read()) == 16
    numbers = {part.name.split("-")[1] for part in store.parts()}
    assert len(numbers) == len(store.parts()) == 15, "two writers used one number"
    assert sum(part.rows for part in store.listing()) == 30, "a row was written twice or not at all"


@pytest.fixture
def sealed(tmp_path: Path) -> Ref:
    ExampleStore(tmp_path / "examples").upsert([example(1), example(2)])
    return snapshot(tmp_path / "runs" / "r" / "collect", tmp_path / "examples", [])


def test_a_snapshot_does_not_see_what_comes_later(tmp_path: Path, sealed: Ref) -> None:
    ExampleStore(tmp_path / "examples").upsert([example(1, notes="later"), example(3)])
    assert {found.source_id: found.notes for found in read_snapshot(verify(sealed))} == {"1": "", "2": ""}
    assert sealed.kind == "examples" and sealed.counts["rows"] == 2


def test_a_snapshot_counts_the_latest_version_alone(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path / "examples")
    store.upsert([example(1)])
    store.upsert([example(1, notes="later")])
    found = read_snapshot(snapshot(tmp_path / "collect", tmp_path / "examples", []))
    assert [one.notes for one in found] == ["later"]


def test_a_snapshot_of_the_same_parts_has_the_same_hash_anywhere(tmp_path: Path, sealed: Ref) -> None:
    other = snapshot(tmp_path / "runs" / "q" / "collect", tmp_path / "examples", [])
    assert other.sha256 == sealed.sha256


def test_a_snapshot_taken_again_is_the_one_that_stands(tmp_path: Path, sealed: Ref) -> None:
    before = (sealed.path / "manifest.json").stat().st_mtime_ns
    assert snapshot(sealed.path, tmp_path / "examples", []) == sealed
    assert (sealed.path / "manifest.json").stat().st_mtime_ns == before


def test_a_snapshot_survives_a_move_of_the_whole_home(tmp_path: Path, sealed: Ref) -> None:
    (tmp_path / "runs").rename(tmp_path / "moved-runs")
    home = tmp_path / "elsewhere"
    home.mkdir()
    (tmp_path / "moved-runs").rename(home / "runs")
    for name in ("examples", "keys"):
        (tmp_path / name).rename(home / name)
    moved = sealed.model_copy(update={"uri": (home / "runs" / "r" / "collect").as_uri()})
    assert len(read_snapshot(verify(moved))) == 2


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_a_part_that_changed_is_refused_by_name(tmp_path: Path, sealed: Ref, harm: str) -> None:
    part = ExampleStore(tmp_path / "examples").parts()[0]
    if harm == "change":
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    else:
        part.unlink()
    with pytest.raises(IntegrityError, match=part.name):
        read_snapshot(sealed)
