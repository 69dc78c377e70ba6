"""Data keys of one example store: they encrypt its parts, and a master key wraps them in ``keyring.json``.

A rotation wraps the same data keys with a new master key and adds a data key for what comes: one small file is
replaced, no part is written again, and the old master key opens nothing any more. The file is sealed with a
message authentication code, so its list of parts that were never encrypted cannot be added to.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, ValidationError

from opstune.errors import IntegrityError
from opstune.security.keys import KEY_BYTES, Keyring, Master, derive, write_private

FILE = "keyring.json"
_NONCE_BYTES = 12


class _Wrapped(BaseModel):
    """A data key as AES-256-GCM ciphertext under the master key: nonce and ciphertext, base64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    made: datetime
    wrapped: str


class _Book(BaseModel):
    """``plain`` lists the parts that stood unencrypted when the first data key was made, by path, with their sha256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    master: str
    current: str
    keys: dict[str, _Wrapped]
    plain: dict[str, str]
    mac: str = ""


class DataKeys:
    """The data keys of a store by id, unwrapped. New parts take the one named ``current``."""

    def __init__(self, book: _Book, keys: Mapping[str, bytes]) -> None:
        self._book = book
        self._keys = keys

    @classmethod
    def load(cls, root: Path, keyring: Keyring) -> DataKeys | None:
        """What stands in a store, or none where nothing was encrypted yet.

        Raises:
            IntegrityError: the master key is not here, or the file was changed.
        """
        path = root / FILE
        try:
            book = _Book.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise _changed(path) from error
        master = keyring.find(book.master)
        if not hmac.compare_digest(book.mac, _mac(book, master)):
            raise _changed(path)
        try:
            return cls(book, {name: _unwrap(entry, name, master) for name, entry in book.keys.items()})
        except (InvalidTag, ValueError) as error:
            raise _changed(path) from error

    @classmethod
    def create(cls, root: Path, master: Master, plain: Mapping[str, str]) -> DataKeys:
        """Give a store its first data key. Callers hold the store's lock."""
        return cls._write(root, master, {}, {}, plain)

    def rotate(self, root: Path, keyring: Keyring) -> DataKeys:
        """Wrap every data key with a new master key and add one for new parts. Callers hold the store's lock.

        Raises:
            ConfigError: the secret that should take over is the one in use.
        """
        made = {name: entry.made for name, entry in self._book.keys.items()}
        return self._write(root, keyring.fresh(self.master), self._keys, made, self.plain)

    @property
    def master(self) -> str:
        """The id of the master key that wraps them all."""
        return self._book.master

    @property
    def current(self) -> str:
        return self._book.current

    @property
    def made(self) -> dict[str, datetime]:
        """When each data key was made."""
        return {name: entry.made for name, entry in self._book.keys.items()}

    @property
    def plain(self) -> dict[str, str]:
        """Parts that stood unencrypted when encryption began: path under the root → sha256."""
        return self._book.plain

    def part_key(self, name: str, identity: str) -> bytes:
        """The key of one part, derived from a data key and what the part is."""
        return derive(self._keys[name], f"part {identity}")

    @classmethod
    def _write(
        cls,
        root: Path,
        master: Master,
        known: Mapping[str, bytes],
        made: Mapping[str, datetime],
        plain: Mapping[str, str],
    ) -> DataKeys:
        current = os.urandom(4).hex()
        keys = {**known, current: os.urandom(KEY_BYTES)}
        now = datetime.now(UTC)
        wrapped = {
            name: _Wrapped(made=made.get(name, now), wrapped=_wrap(key, name, master)) for name, key in keys.items()
        }
        book = _Book(master=master.id, current=current, keys=wrapped, plain=dict(plain))
        book = book.model_copy(update={"mac": _mac(book, master)})
        write_private(root / FILE, book.model_dump_json(indent=1).encode())
        return cls(book, keys)


def _wrap(key: bytes, name: str, master: Master) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(derive(master.material, "wrap")).encrypt(nonce, key, name.encode())
    return base64.b64encode(nonce + sealed).decode()


def _unwrap(entry: _Wrapped, name: str, master: Master) -> bytes:
    content = base64.b64decode(entry.wrapped, validate=True)
    cipher = AESGCM(derive(master.material, "wrap"))
    return cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], name.encode())


def _mac(book: _Book, master: Master) -> str:
    content = json.dumps(book.model_dump(mode="json", exclude={"mac"}), sort_keys=True)
    return hmac.digest(derive(master.material, "book"), content.encode(), "sha256").hex()


def _changed(path: Path) -> IntegrityError:
    todo = "Restore the file from a backup: the store's parts cannot be read without it."
    return IntegrityError(f"{path} changed after it was written, or is damaged", "example store", todo)
