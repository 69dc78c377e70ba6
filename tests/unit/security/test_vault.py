"""What stands in a store tells nothing to strangers, and nothing in it can be changed unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from some_examples import DAY, example, flip, write_plain

from opstune.errors import IntegrityError
from opstune.security.data_keys import FILE
from opstune.store import ExampleStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "examples"
    ExampleStore(root).upsert([example(1), example(2), example(3, occurred_at=DAY.replace(day=6))])
    return root


def test_a_part_is_unreadable_without_its_key(root: Path) -> None:
    content = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for word in (b"checkout", b"SEV-2", b"triage", b"severity", b"group_id"):
        assert word not in content
    part = ExampleStore(root).parts()[0]
    assert part.read_bytes()[:4] == part.read_bytes()[-4:] == b"PARE"
    with pytest.raises(OSError, match="no decryption found"):
        pq.ParquetFile(part)


def test_every_flipped_byte_is_refused_by_the_file(root: Path) -> None:
    """AES_GCM_V1 authenticates pages too, which AES_GCM_CTR_V1 does not. Only an upsert reads digests."""
    part = ExampleStore(root).parts()[0]
    whole = part.read_bytes()
    for position in [*range(12), *range(12, len(whole), 7), len(whole) - 1]:
        flip(part, position)
        with pytest.raises(IntegrityError, match=part.name):
            ExampleStore(root).read()
            ExampleStore(root).compare([example(1)])
        part.write_bytes(whole)
    assert len(ExampleStore(root).read()) == 3


@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_a_cut_part_is_refused_by_the_file(root: Path, length: int) -> None:
    part = ExampleStore(root).parts()[0]
    part.write_bytes(part.read_bytes()[:length])
    with pytest.raises(IntegrityError, match=part.name):
        ExampleStore(root).read()


def _swap(root: Path) -> str:
    one, other = ExampleStore(root).parts()
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return one.name


def _move_to_another_day(root: Path) -> str:
    part = ExampleStore(root).parts()[0]
    (root / "source=s" / "day=2026-01-09").mkdir()
    return part.rename(root / "source=s" / "day=2026-01-09" / part.name).name


def _renumber(root: Path) -> str:
    part = ExampleStore(root).parts()[0]
    return part.rename(part.with_name(part.name.replace("part-000001", "part-000009"))).name


def _rename_key(root: Path) -> str:
    part = ExampleStore(root).parts()[0]
    return part.rename(part.with_name("-".join([*part.stem.split("-")[:3], "00000000"]) + ".parquet")).name


def _strip_key(root: Path) -> str:
    part = ExampleStore(root).parts()[0]
    return part.rename(part.with_name("-".join(part.stem.split("-")[:3]) + ".parquet")).name


def _add_unencrypted(root: Path) -> str:
    return write_plain(root, 2, [example(1, answer={"severity": "SEV-0"})]).name


def _replace_by_unencrypted(root: Path) -> str:
    part = ExampleStore(root).parts()[0]
    forged = write_plain(root, 2, [example(1, answer={"severity": "SEV-0"})])
    return forged.replace(part).name


@pytest.mark.parametrize(
    "harm",
    [
        _swap,
        _move_to_another_day,
        _renumber,
        _rename_key,
        _strip_key,
        _add_unencrypted,
        _replace_by_unencrypted,
    ],
)
def test_a_part_that_the_store_did_not_write_there_is_refused(root: Path, harm: Callable[[Path], str]) -> None:
    name = harm(root)
    with pytest.raises(IntegrityError, match=name):
        ExampleStore(root).read()


def _add_to_plain(book: dict[str, object]) -> None:
    book["plain"] = {"source=s/day=2026-01-05/part-000002-aa.parquet": "aa"}


def _other_current(book: dict[str, object]) -> None:
    book["current"] = "00000000"


def _drop_keys(book: dict[str, object]) -> None:
    book["keys"] = {}


def _drop_field(book: dict[str, object]) -> None:
    del book["mac"], book["master"]


@pytest.mark.parametrize("change", [_add_to_plain, _other_current, _drop_keys, _drop_field])
def test_a_changed_keyring_is_refused_by_its_file(root: Path, change: Callable[[dict[str, object]], None]) -> None:
    book = json.loads((root / FILE).read_text())
    change(book)
    (root / FILE).write_text(json.dumps(book))
    with pytest.raises(IntegrityError, match=FILE):
        ExampleStore(root).read()


def test_a_store_of_another_home_cannot_be_read_with_the_keys_of_this_one(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ExampleStore(other / "examples").upsert([example(1)])
    shutil.rmtree(other / "examples")
    shutil.copytree(root, other / "examples")
    with pytest.raises(IntegrityError, match=r"store-[0-9a-f]{8}\.key is missing"):
        ExampleStore(other / "examples").read()


@pytest.mark.parametrize(("lost", "told"), [("keys", r"store-.*\.key is missing"), (f"examples/{FILE}", FILE)])
def test_without_its_keys_a_store_is_neither_read_nor_given_new_ones(root: Path, lost: str, told: str) -> None:
    path = root.parent / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for ask in (ExampleStore(root).read, lambda: ExampleStore(root).upsert([example(9, source="new")])):
        with pytest.raises(IntegrityError, match=told):
            ask()


def test_parts_from_before_encryption_are_read_and_updated(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    write_plain(root, 1, [example(1), example(2)])
    write_plain(root, 2, [example(2, notes="seen")])
    assert [one.notes for one in ExampleStore(root).read()] == ["", "seen"]
    assert not (tmp_path / "keys").exists(), "reading makes no key"
    assert ExampleStore(root).upsert([example(1), example(2, notes="seen again"), example(3)]) == (1, 1, 1)
    assert {one.source_id: one.notes for one in ExampleStore(root).read()} == {"1": "", "2": "seen again", "3": ""}
    assert [part.rows for part in ExampleStore(root).listing()] == [2, 1, 2]


def test_a_part_from_before_encryption_that_changed_since_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    old = write_plain(root, 1, [example(1)])
    ExampleStore(root).upsert([example(2)])
    flip(old, -20)
    with pytest.raises(IntegrityError, match=old.name):
        ExampleStore(root).read()
