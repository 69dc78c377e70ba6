"""What a stage made is signed by this home's key; whatever was changed since goes no further, and the file is named."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from opstune import artifacts, pipeline, settings
from opstune.artifacts import MANIFEST, SIGNATURE, Ref, sha256_file
from opstune.errors import IntegrityError
from opstune.pipeline import Run
from opstune.security import signing


def build(folder: Path, text: str = "rows", kind: str = "dataset") -> Ref:
    def make(partial: Path) -> dict[str, float]:
        (partial / "train.parquet").write_text(text)
        return {"train": 1}

    return artifacts.build(folder, kind, {}, {"text": text}, make)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ref(tmp_path: Path, keys: Path) -> Ref:
    folder = tmp_path / "dataset"
    return signing.signed(folder, keys, lambda: build(folder))


def _change(ref: Ref, keys: Path) -> str:
    (ref.path / "train.parquet").write_text("poison")
    return "train.parquet changed"


def _change_and_hash_anew(ref: Ref, keys: Path) -> str:
    """What a forger without the key can do: every hash in the manifest fits the changed file again."""
    _change(ref, keys)
    manifest = ref.manifest
    manifest["files"]["train.parquet"]["sha256"] = sha256_file(ref.path / "train.parquet")
    manifest["sha256"] = artifacts.content_hash(manifest["files"])
    (ref.path / MANIFEST).write_text(json.dumps(manifest))
    artifacts.verify(artifacts.open_ref(ref.path))
    return f"{MANIFEST} changed after it was signed"


def _say_other_settings(ref: Ref, keys: Path) -> str:
    manifest = {**ref.manifest, "settings": {"seed": 8}}
    (ref.path / MANIFEST).write_text(json.dumps(manifest))
    return f"{MANIFEST} changed after it was signed"


def _drop_signature(ref: Ref, keys: Path) -> str:
    (ref.path / SIGNATURE).unlink()
    return f"{SIGNATURE} is missing"


def _garble_signature(ref: Ref, keys: Path) -> str:
    (ref.path / SIGNATURE).write_text("{}")
    return f"{SIGNATURE} is damaged"


def _sign_with_another_key(ref: Ref, keys: Path) -> str:
    _change_and_hash_anew(ref, keys)
    (ref.path / SIGNATURE).unlink()
    shutil.copytree(ref.path, other := ref.path.with_name("forged"))
    signing.sign(other, keys.with_name("other-keys"))
    shutil.copy(other / SIGNATURE, ref.path / SIGNATURE)
    return f"{SIGNATURE} was made by the key"


def _claim_our_key(ref: Ref, keys: Path) -> str:
    _sign_with_another_key(ref, keys)
    told = json.loads((ref.path / SIGNATURE).read_text())
    (ref.path / SIGNATURE).write_text(json.dumps({**told, "key": signing.key_id(keys)}))
    return f"{MANIFEST} changed after it was signed"


def _take_anothers_signature(ref: Ref, keys: Path) -> str:
    other = ref.path.with_name("other")
    signing.signed(other, keys, lambda: build(other, "other rows"))
    shutil.copy(other / SIGNATURE, ref.path / SIGNATURE)
    return f"{MANIFEST} changed after it was signed"


def _add(ref: Ref, keys: Path) -> str:
    (ref.path / "extra.parquet").write_text("more")
    return "extra.parquet was added"


def _remove(ref: Ref, keys: Path) -> str:
    (ref.path / "train.parquet").unlink()
    return "train.parquet is missing"


def _lose_public_key(ref: Ref, keys: Path) -> str:
    (keys / signing.PUBLIC).unlink()
    return r"signing\.pub is missing"


HARMS = [
    _change,
    _change_and_hash_anew,
    _say_other_settings,
    _drop_signature,
    _garble_signature,
    _sign_with_another_key,
    _claim_our_key,
    _take_anothers_signature,
    _add,
    _remove,
    _lose_public_key,
]


@pytest.mark.parametrize("harm", HARMS)
def test_what_was_changed_is_refused_by_the_file(ref: Ref, keys: Path, harm: Callable[[Ref, Path], str]) -> None:
    assert signing.check(ref, keys) == ref
    told = harm(ref, keys)
    with pytest.raises(IntegrityError, match=told):
        signing.check(artifacts.open_ref(ref.path), keys)


def test_a_signed_stage_asked_again_is_returned_as_it_stands(ref: Ref, keys: Path) -> None:
    before = (ref.path / SIGNATURE).stat().st_mtime_ns
    assert signing.signed(ref.path, keys, lambda: build(ref.path)) == ref
    assert (ref.path / SIGNATURE).stat().st_mtime_ns == before


def test_other_work_in_the_same_folder_is_signed_anew(ref: Ref, keys: Path) -> None:
    other = signing.signed(ref.path, keys, lambda: build(ref.path, "other rows"))
    assert other.sha256 != ref.sha256
    assert signing.check(other, keys) == other


def test_a_finished_folder_without_signature_is_made_again_not_signed(ref: Ref, keys: Path) -> None:
    _change_and_hash_anew(ref, keys)
    _drop_signature(ref, keys)
    again = signing.signed(ref.path, keys, lambda: build(ref.path))
    assert (again.path / "train.parquet").read_text() == "rows"
    assert signing.check(again, keys) == again


def test_a_changed_folder_is_not_signed_over(ref: Ref, keys: Path) -> None:
    told = _change_and_hash_anew(ref, keys)
    with pytest.raises(IntegrityError, match=told):
        signing.signed(ref.path, keys, lambda: build(ref.path))


def test_the_signing_key_is_made_once_for_its_owner_only(keys: Path) -> None:
    threads = [threading.Thread(target=signing.ensure_key, args=(keys,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = signing.key_id(keys)
    assert signing.ensure_key(keys).stat().st_mode & 0o777 == 0o600
    assert signing.key_id(keys) == first


@pytest.mark.parametrize(
    ("stage", "given"),
    [
        ("dataset", 1),
        ("run_training", 1),
        ("evaluate", 2),
        ("red_team", 2),
        ("gate", 2),
        ("convert", 1),
        ("evaluate_shipped", 2),
        ("red_team_shipped", 2),
        ("gate_shipped", 5),
    ],
)
@pytest.mark.parametrize("harm", [_change_and_hash_anew, _drop_signature, _sign_with_another_key])
def test_every_stage_refuses_what_was_not_signed_here(
    own_home: Path, harm: Callable[[Ref, Path], str], stage: str, given: int
) -> None:
    run = Run("run", "full", settings.load())
    keys = run.settings.keys_dir
    folder = own_home / "elsewhere"
    ref = signing.signed(folder, keys, lambda: build(folder))
    told = harm(ref, keys)
    with pytest.raises(IntegrityError, match=told):
        getattr(pipeline, stage)(run, *[artifacts.open_ref(folder)] * given)


def test_nothing_unsigned_is_registered(own_home: Path) -> None:
    run = Run("run", "full", settings.load())
    with pytest.raises(IntegrityError, match=SIGNATURE):
        pipeline.register(run, {"adapter": build(own_home / "adapter", kind="adapter")})
