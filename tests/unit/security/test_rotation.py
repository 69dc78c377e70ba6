"""A new key takes over: nothing is lost, old snapshots hold, and the old key is needed no more."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from some_examples import DAY, example, flip, write_plain

from opstune.collect import snapshot
from opstune.errors import ConfigError, IntegrityError
from opstune.security.keys import Keyring
from opstune.store import SNAPSHOT, ExampleStore, read_snapshot

FIRST, SECOND = "the-first-secret-" + "1" * 32, "the-second-secret-" + "2" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "examples"
    ExampleStore(root).upsert([example(1), example(2), example(3, occurred_at=DAY.replace(day=6))])
    return root


def test_after_a_rotation_the_old_key_is_needed_no_more(root: Path) -> None:
    sealed = snapshot(root.parent / "collect", root, [])
    before = {path: path.read_bytes() for path in ExampleStore(root).parts()}
    (old,) = Keyring(root.parent / "keys").masters()
    rotated = ExampleStore(root).rotate()
    assert rotated.master != old.id and rotated.sealed == 0
    (root.parent / "keys" / old.origin).unlink()
    assert {path: path.read_bytes() for path in ExampleStore(root).parts()} == before
    assert len(ExampleStore(root).read()) == len(read_snapshot(sealed)) == 3
    assert snapshot(root.parent / "collect", root, []) == sealed


def test_the_old_key_opens_nothing_of_what_comes_after(root: Path) -> None:
    (old,) = Keyring(root.parent / "keys").masters()
    before = ExampleStore(root).parts()
    new = ExampleStore(root).rotate().master
    ExampleStore(root).upsert([example(4)])
    (added,) = set(ExampleStore(root).parts()) - set(before)
    assert added.stem.split("-")[3] not in {path.stem.split("-")[3] for path in before}
    (root.parent / "keys" / f"store-{new}.key").unlink()
    with pytest.raises(IntegrityError, match=rf"store-{new}\.key is missing"):
        ExampleStore(root).read()
    assert old.id != new


def test_a_rotation_encrypts_what_stood_plain_and_its_snapshots_hold(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    plain = [write_plain(root, 1, [example(1), example(2)]), write_plain(root, 2, [example(2, notes="later")])]
    early = snapshot(tmp_path / "early", root, [])
    ExampleStore(root).upsert([example(3)])
    late = snapshot(tmp_path / "late", root, [])
    assert ExampleStore(root).rotate().sealed == 2
    assert not any(path.exists() for path in plain)
    assert b"checkout" not in b"".join(path.read_bytes() for path in root.rglob("*.parquet"))
    assert [one.notes for one in read_snapshot(early)] == ["", "later"]
    assert [one.source_id for one in read_snapshot(late)] == ["1", "2", "3"]
    assert [one.notes for one in ExampleStore(root).read()] == ["", "later", ""]
    assert ExampleStore(root).rotate().sealed == 0
    assert len(read_snapshot(early)) == 2


def test_an_old_snapshot_takes_only_the_encrypted_form_of_its_own_part(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    plain = write_plain(root, 1, [example(1)])
    sealed = snapshot(tmp_path / "collect", root, [])
    ExampleStore(root).rotate()
    listed = json.loads((sealed.path / SNAPSHOT).read_text())
    listed["parts"][0]["sha256"] = "0" * 64
    (sealed.path / SNAPSHOT).write_text(json.dumps(listed))
    with pytest.raises(IntegrityError, match=plain.stem):
        read_snapshot(sealed)


def test_an_encrypted_form_that_was_changed_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    write_plain(root, 1, [example(1)])
    sealed = snapshot(tmp_path / "collect", root, [])
    ExampleStore(root).rotate()
    (part,) = ExampleStore(root).parts()
    flip(part)
    with pytest.raises(IntegrityError, match=part.name):
        read_snapshot(sealed)


def test_a_store_that_is_open_during_a_rotation_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    write_plain(root, 1, [example(1, notes="old")])
    writer, reader = ExampleStore(root), ExampleStore(root)
    assert writer.upsert([example(1, notes="new")]) == (0, 1, 0)
    assert len(reader.read()) == 1
    ExampleStore(root).rotate()
    assert writer.upsert([example(1, notes="new")]) == (0, 0, 1), "the old part is no news because it was encrypted"
    assert writer.upsert([example(1, notes="old"), example(2)]) == (1, 1, 0)
    assert [one.notes for one in reader.read()] == ["old", ""]


def test_a_secret_takes_over_from_a_file_a_secret_from_a_secret_and_a_file_from_a_secret(root: Path) -> None:
    keys = root.parent / "keys"
    ExampleStore(root, Keyring(keys, FIRST)).rotate()
    for file in keys.glob("store-*.key"):
        file.unlink()
    assert len(ExampleStore(root, Keyring(keys, FIRST)).read()) == 3
    ExampleStore(root, Keyring(keys, SECOND, FIRST)).rotate()
    assert len(ExampleStore(root, Keyring(keys, SECOND)).read()) == 3
    assert not list(keys.glob("store-*.key"))
    ExampleStore(root, Keyring(keys, None, SECOND)).rotate()
    assert len(ExampleStore(root).read()) == 3


def test_a_new_secret_alone_is_told_about_the_old_one(root: Path) -> None:
    keys = root.parent / "keys"
    ExampleStore(root, Keyring(keys, FIRST)).rotate()
    for file in keys.glob("store-*.key"):
        file.unlink()
    replaced = Keyring(keys, SECOND)
    for ask in (ExampleStore(root, replaced).read, ExampleStore(root, replaced).rotate):
        with pytest.raises(IntegrityError, match=r"is missing.*opstune_store_key gives .*opstune_store_key_previous"):
            ask()


def test_the_secret_in_use_cannot_take_over_from_itself(root: Path) -> None:
    secret = Keyring(root.parent / "keys", FIRST)
    ExampleStore(root, secret).rotate()
    with pytest.raises(ConfigError, match="opstune_store_key still gives the key that is in use"):
        ExampleStore(root, secret).rotate()


def _rotate_until_killed(root: Path, steps: int) -> None:
    """Rotate, and die by SIGKILL instead of the given change to the file system."""
    calls, replace, unlink = itertools.count(1), Path.replace, Path.unlink

    def dying(change: object) -> object:
        def changed(self: Path, *args: object, **options: object) -> object:
            if next(calls) == steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(self, *args, **options)  # type: ignore[operator]

        return changed

    Path.replace, Path.unlink = dying(replace), dying(unlink)  # type: ignore[method-assign, assignment]
    ExampleStore(root).rotate()


def test_a_kill_at_any_step_of_a_rotation_loses_nothing(tmp_path: Path) -> None:
    killed = 0
    for steps in itertools.count(1):
        home = tmp_path / str(steps)
        root = home / "examples"
        write_plain(root, 1, [example(1), example(2)])
        write_plain(root, 2, [example(2, notes="later")])
        ExampleStore(root).upsert([example(3)])
        sealed = snapshot(home / "collect", root, [])
        process = multiprocessing.get_context("fork").Process(target=_rotate_until_killed, args=(root, steps))
        process.start()
        process.join()
        for _ in range(2):
            assert [one.notes for one in ExampleStore(root).read()] == ["", "later", ""]
            assert [one.notes for one in read_snapshot(sealed)] == ["", "later", ""]
            assert sum(part.rows for part in ExampleStore(root).listing()) == 4
            used = ExampleStore(root).rotate().master
            for file in (home / "keys").glob("store-*.key"):
                if used not in file.name:
                    file.unlink()
        assert not [path for path in root.rglob("part-*") if len(path.stem.split("-")) < 4]
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
    assert killed >= 10, "a rotation of two plain parts changes the file system at least ten times"
