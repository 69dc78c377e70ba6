from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest

from opstune.errors import ConfigError, IntegrityError
from opstune.security.keys import Keyring

SECRET = "a-secret-of-a-backend-" + "x" * 20
OTHER = "another-secret-of-it--" + "y" * 20


def test_a_key_is_made_at_first_use_for_its_owner_only(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "keys")
    assert keyring.masters() == [] and not (tmp_path / "keys").exists(), "looking makes no key"
    made = keyring.current()
    file = tmp_path / "keys" / f"store-{made.id}.key"
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert Keyring(tmp_path / "keys").current() == made
    assert made.origin == file.name and len(made.material) == 32


def test_many_at_first_use_make_one_key(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Keyring(tmp_path / "keys").current().id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_secret_is_the_key_and_nothing_is_written(tmp_path: Path) -> None:
    given = Keyring(tmp_path / "keys", SECRET).current()
    assert given == Keyring(tmp_path / "elsewhere", f"{SECRET}\n").current()
    assert given.id != Keyring(tmp_path, OTHER).current().id
    assert given.origin == "opstune_store_key"
    assert not (tmp_path / "keys").exists()


def test_a_short_secret_is_refused_without_being_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"opstune_store_key.*openssl rand") as refused:
        Keyring(tmp_path, "hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    made = Keyring(tmp_path / "keys").current()
    shown = repr(made)
    assert made.id in (tmp_path / "keys" / made.origin).name
    for form in (repr(made.material), made.material.hex(), base64.b64encode(made.material).decode()):
        assert form not in shown


def test_a_missing_key_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"store-0a1b2c3d\.key is missing.*Restore.*opstune_store_key"):
        Keyring(tmp_path / "keys", SECRET).find("0a1b2c3d")


@pytest.mark.parametrize("content", [b"", b"AAAA\n", b"\xff\xfe", base64.b64encode(bytes(32))])
def test_a_damaged_key_is_refused_by_its_file(tmp_path: Path, content: bytes) -> None:
    made = Keyring(tmp_path / "keys").current()
    file = tmp_path / "keys" / made.origin
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=file.name):
        Keyring(tmp_path / "keys").find(made.id)
