"""The files of an example store, encrypted: their names, their keys, and what is refused.

A part is Parquet under modular encryption (``AES_GCM_V1``, footer and every column), its name
``part-<number>-<hash>-<data key>.parquet``. Its key is derived from that data key and from the part's place and
number, which the cipher authenticates too: a part put in another's place cannot be read. Parts from before
encryption have no key in their name; ``seal_plain`` encrypts them beside themselves.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption

from opstune.artifacts import atomic_path, sha256_file
from opstune.errors import IntegrityError
from opstune.security.data_keys import FILE, DataKeys
from opstune.security.keys import Keyring, write_private

_WHERE = "example store"
_AGAIN = "Restore the file from a backup, or remove it, collect again with --since and take a new snapshot."
#: How an encrypted Parquet file begins. Nothing else in it goes unauthenticated.
_MAGIC = b"PARE"


class Part(NamedTuple):
    """One file of the store, relative to its root."""

    path: str
    sha256: str
    rows: int


class Vault:
    """Writes and reads the parts under one root. Whatever makes or changes keys needs the store's lock."""

    def __init__(self, root: Path, keyring: Keyring) -> None:
        self.root = root
        self._keyring = keyring
        self._keys: DataKeys | None = None

    def parts(self, source: str = "*") -> list[Path]:
        """All part files, oldest first; of the same age by path. One that was encrypted later hides its plain form."""
        found = set(self.root.glob(f"source={source}/day=*/part-*.parquet"))
        replaced = {_plain_form(path) for path in found if key_of(path)}
        return sorted(found - replaced, key=lambda path: (number_of(path), str(path)))

    def keys(self) -> DataKeys | None:
        """The data keys as they stand on disk now; none where nothing was encrypted yet.

        Raises:
            IntegrityError: the master key is not here, or ``keyring.json`` was changed.
        """
        self._keys = DataKeys.load(self.root, self._keyring)
        return self._keys

    def ensure_keys(self) -> DataKeys:
        """The data keys, made at first use; parts that stand there by then are noted as plain.

        Raises:
            IntegrityError: parts were encrypted, but their keys are lost.
        """
        if keys := self.keys():
            return keys
        parts = self.parts()
        if encrypted := [path for path in parts if key_of(path)]:
            raise self._without_keys(encrypted[0])
        plain = {self._name(path): sha256_file(path) for path in parts}
        self._keys = DataKeys.create(self.root, self._keyring.current(), plain)
        return self._keys

    def rotate(self) -> DataKeys:
        """A new master key that wraps all data keys, and a new data key for what comes.

        The new master key is on the disk before ``keyring.json`` is replaced in one step, so a kill leaves the old
        state or the new one.

        Raises:
            ConfigError: the secret that should take over is the one in use.
        """
        standing = self.keys()
        self._keys = standing.rotate(self.root, self._keyring) if standing else self.ensure_keys()
        return self._keys

    def write(self, keys: DataKeys, place: str, number: int, table: pa.Table) -> Path:
        """Write one part with the current data key; it appears whole or not at all."""
        content = _encrypt(table, keys, f"{place}/{number:06d}")
        name = f"part-{number:06d}-{hashlib.sha256(content).hexdigest()[:12]}-{keys.current}.parquet"
        path = self.root / place / name
        with atomic_path(path) as partial:
            partial.write_bytes(content)
        return path

    def seal_plain(self, keys: DataKeys) -> int:
        """Encrypt every part that stands unencrypted; returns how many.

        The plain file goes when its encrypted form is on the disk and was read back.
        """
        sealed = 0
        for path in sorted(self.root.glob("source=*/day=*/part-*.parquet")):
            if key_of(path):
                continue
            standing = self._encrypted_form(path)
            if standing is None:
                table = self.read(path)
                standing = path.with_name(f"{path.stem}-{keys.current}.parquet")
                write_private(standing, _encrypt(table, keys, self._identity(standing, keys)))
            self.read(standing)
            path.unlink()
            sealed += 1
        return sealed

    def describe(self, path: Path) -> Part:
        """A part as a snapshot lists it.

        Raises:
            IntegrityError: names the file, as ``read`` does.
        """
        path = self._standing(path)
        content = path.read_bytes()
        return Part(self._name(path), hashlib.sha256(content).hexdigest(), self._open(path, content).metadata.num_rows)

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of a part, all when left out.

        Raises:
            IntegrityError: names the file: it is missing, it changed, it was put there unencrypted, or its key is lost.
        """
        return self._table(self._standing(path), None, columns)

    def read_as(self, part: Part, columns: Sequence[str]) -> pa.Table:
        """Columns of a part that is still what a snapshot listed: byte for byte, or encrypted since.

        Raises:
            IntegrityError: names the file, as ``read`` does.
        """
        path = self.root / part.path
        standing = self._standing(path)
        if standing == path:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != part.sha256:
                raise _changed(path)
            return self._table(path, content, columns)
        keys = self._keys or self.keys()
        if keys is None or keys.plain.get(part.path) != part.sha256:
            raise _changed(path)
        return self._table(standing, None, columns)

    def _table(self, path: Path, content: bytes | None, columns: Sequence[str] | None) -> pa.Table:
        file = self._open(path, content)
        try:
            return file.read(columns=columns and list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _changed(path) from error

    def _open(self, path: Path, content: bytes | None) -> pq.ParquetFile:
        if key_of(path):
            properties = self._decryption(path)
            with path.open("rb") if content is None else io.BytesIO(content) as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise _changed(path)
        else:
            properties = None
            content = path.read_bytes() if content is None else content
            self._refuse_unknown_plain(path, content)
        try:
            source = path if content is None else pa.BufferReader(content)
            return pq.ParquetFile(source, decryption_properties=properties)
        except (OSError, pa.ArrowException) as error:
            raise _changed(path) from error

    def _decryption(self, path: Path) -> encryption.FileDecryptionProperties:
        keys = self._keys or self.keys()
        if keys and key_of(path) not in keys.made:
            keys = self.keys()  # another process has rotated
        if keys is None or key_of(path) not in keys.made:
            raise self._without_keys(path)
        identity = self._identity(path, keys)
        return encryption.create_decryption_properties(
            keys.part_key(key_of(path), identity), aad_prefix=identity.encode()
        )

    def _refuse_unknown_plain(self, path: Path, content: bytes) -> None:
        keys = self._keys or self.keys()
        if keys is None:
            return
        known = keys.plain.get(self._name(path))
        if known is None:
            what = f"{path} is not encrypted and came after encryption began, so nobody knows who wrote it"
            raise IntegrityError(what, _WHERE, "Remove it: the store writes encrypted parts only.")
        if hashlib.sha256(content).hexdigest() != known:
            raise _changed(path)

    def _identity(self, path: Path, keys: DataKeys) -> str:
        """What an encrypted part is bound to: its place and number, and the plain part whose place it took."""
        was = keys.plain.get(self._name(_plain_form(path)))
        own = f"{self._name(path.parent)}/{number_of(path):06d}"
        return f"{own}/{was}" if was else own

    def _standing(self, path: Path) -> Path:
        """A part, or what a rotation has made of it since it was listed."""
        if path.is_file():
            return path
        if standing := self._encrypted_form(path):
            return standing
        raise IntegrityError(f"{path} is missing", _WHERE, _AGAIN)

    def _encrypted_form(self, path: Path) -> Path | None:
        return next(path.parent.glob(f"{path.stem}-*.parquet"), None) if not key_of(path) else None

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _without_keys(self, path: Path) -> IntegrityError:
        what = f"{path} was encrypted with the data key {key_of(path)}, which {self.root / FILE} does not hold"
        return IntegrityError(what, _WHERE, f"Restore {FILE} from a backup of this store.")


def number_of(path: Path) -> int:
    return int(path.stem.split("-")[1])


def key_of(path: Path) -> str:
    """The id of the data key that a part was encrypted with; empty for a plain part."""
    fields = path.stem.split("-")
    return fields[3] if len(fields) == 4 else ""


def _plain_form(path: Path) -> Path:
    return path.with_name(f"{path.stem.removesuffix(f'-{key_of(path)}')}.parquet")


def _encrypt(table: pa.Table, keys: DataKeys, identity: str) -> bytes:
    """A table as encrypted Parquet. Parts are small and read whole: dictionaries and statistics would double them."""
    buffer = io.BytesIO()
    properties = encryption.create_encryption_properties(
        keys.part_key(keys.current, identity), aad_prefix=identity.encode(), store_aad_prefix=False
    )
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        encryption_properties=properties,
    )
    return buffer.getvalue()


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} changed after it was written, or is damaged", _WHERE, _AGAIN)
