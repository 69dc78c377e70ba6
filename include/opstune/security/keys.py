"""Master keys of the example store: files under ``<home>/keys``, or a secret that a secrets backend keeps.

A file key is made at first use, readable by its owner only. A secret comes as the password of the connection
``opstune_store_key``; while one secret takes over from another, the old one is ``opstune_store_key_previous``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from filelock import FileLock

from opstune.artifacts import atomic_path
from opstune.errors import ConfigError, IntegrityError
from opstune.settings import Connection

STORE_KEY = "opstune_store_key"
PREVIOUS_STORE_KEY = "opstune_store_key_previous"

KEY_BYTES = 32
#: 32 hexadecimal digits are 128 bits; a shorter secret is likely to be a password that somebody made up.
_SECRET_CHARACTERS = 32
_NEW_SECRET = "Make one with `openssl rand -hex 32`."


@dataclass(frozen=True)
class Master:
    """One master key. ``origin`` is the file or the connection that it came from; ``made`` is unknown for a secret."""

    material: bytes = field(repr=False)
    origin: str
    made: datetime | None = None

    @property
    def id(self) -> str:
        """Eight hexadecimal digits of the key's hash: a key that was damaged no longer fits its file's name."""
        return hashlib.sha256(b"opstune store key\0" + self.material).hexdigest()[:8]


class Keyring:
    """The master keys that this process can reach. Looking at it makes no key; ``current`` and ``fresh`` do.

    Raises:
        ConfigError: a secret is too short to be a key.
    """

    def __init__(self, folder: Path, secret: str | None = None, previous: str | None = None) -> None:
        self.folder = folder
        self._secret = _from_secret(secret, STORE_KEY) if secret else None
        self._previous = _from_secret(previous, PREVIOUS_STORE_KEY) if previous else None

    @classmethod
    def connected(cls, folder: Path, connection: Callable[[str], Connection | None]) -> Keyring:
        """The keys in a folder, and the secrets that connections give as their password.

        Raises:
            ConfigError: such a connection has no password, or too short a one.
        """
        return cls(folder, *(_password(name, connection(name)) for name in (STORE_KEY, PREVIOUS_STORE_KEY)))

    def current(self) -> Master:
        """The key for a store that has none yet: the secret, else the newest file, which is made if need be."""
        if self._secret:
            return self._secret
        with private_folder(self.folder):
            files = [key for key in self.masters() if key.made]
            return max(files, key=lambda key: key.made or datetime.min) if files else self._make()

    def fresh(self, used: str) -> Master:
        """The key that takes over from the key ``used``: the secret where one is given, else a new file.

        Raises:
            ConfigError: the secret is the one in use.
        """
        if self._secret and self._secret.id == used:
            todo = f"Put a new secret there and the old one into {PREVIOUS_STORE_KEY}, then rotate. {_NEW_SECRET}"
            raise ConfigError(f"the connection {STORE_KEY} still gives the key that is in use", STORE_KEY, todo)
        if self._secret:
            return self._secret
        with private_folder(self.folder):
            return self._make()

    def find(self, key_id: str) -> Master:
        """The master key of this id.

        Raises:
            IntegrityError: it is not here, or its file was damaged.
        """
        for key in (self._secret, self._previous):
            if key and key.id == key_id:
                return key
        path = self._file(key_id)
        if not path.is_file():
            given = f"; {STORE_KEY} gives {self._secret.id}" if self._secret else ""
            todo = (
                f"Restore the file from a backup. If the key is a secret, give it as the connection {STORE_KEY}, or as "
                f"{PREVIOUS_STORE_KEY} where a new one stands there, and run `opstune keys rotate`."
            )
            raise IntegrityError(f"{path} is missing: the store's keys are wrapped by it{given}", "example store", todo)
        return self._read(path)

    def masters(self) -> list[Master]:
        """Every master key here: secrets, then files, oldest first."""
        files = [self._read(path) for path in self.folder.glob(self._file("*").name)]
        ordered = sorted(files, key=lambda key: (key.made or datetime.min, key.id))
        return [*(key for key in (self._secret, self._previous) if key), *ordered]

    def _file(self, key_id: str) -> Path:
        return self.folder / f"store-{key_id}.key"

    def _make(self) -> Master:
        material = os.urandom(KEY_BYTES)
        path = self._file(Master(material, "").id)
        write_private(path, base64.b64encode(material) + b"\n")
        return self._read(path)

    def _read(self, path: Path) -> Master:
        try:
            material = base64.b64decode(path.read_bytes(), validate=False)
        except (OSError, binascii.Error) as error:
            raise _damaged(path) from error
        key = Master(material, path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC))
        if len(material) != KEY_BYTES or self._file(key.id) != path:
            raise _damaged(path)
        return key


def derive(key: bytes, purpose: str) -> bytes:
    """A key for one purpose from another key: HKDF-SHA256 (RFC 5869), 32 bytes."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(key)


@contextlib.contextmanager
def private_folder(folder: Path) -> Iterator[None]:
    """``folder`` exists, is its owner's alone, and one process at a time makes keys in it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with FileLock(folder / ".lock", mode=0o600):
        yield


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all, and on the disk before this returns: a lost key is lost data."""
    with atomic_path(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _password(name: str, connection: Connection | None) -> str | None:
    if connection is None:
        return None
    password = connection.token or (connection.login or ("", ""))[1]
    if not password:
        raise ConfigError(f"the connection {name} has no password", name, f"Put the key there. {_NEW_SECRET}")
    return password


def _from_secret(secret: str, connection: str) -> Master:
    if len(secret.strip()) < _SECRET_CHARACTERS:
        what = f"the secret of {connection} has fewer than {_SECRET_CHARACTERS} characters"
        raise ConfigError(what, connection, _NEW_SECRET)
    return Master(derive(secret.strip().encode(), "opstune store master key"), connection)


def _damaged(path: Path) -> IntegrityError:
    todo = "Restore the file from a backup: what was encrypted with it cannot be read without it."
    return IntegrityError(f"{path} is not the key that its name says, or cannot be read", "example store", todo)
