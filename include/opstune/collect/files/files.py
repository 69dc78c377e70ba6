"""Source ``files``: files of any format we know. A file that changed is read again as a whole; the store's upsert
keeps what was there, so that appended, rewritten and repaired files are all the same case."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

from opstune.artifacts import sha256_file
from opstune.collect.files import chats, formats
from opstune.collect.source import Kind, Opening, Raw, Reached
from opstune.errors import AccessDenied, ConfigError, OpstuneError, ServiceDown
from opstune.settings import Connection, Section

log = logging.getLogger(__name__)

#: Records after which a run that breaks off goes on, at the next file.
PAGE = 10_000


class FilesOptions(Section):
    """``path`` is a glob under the connection's folder, or under OPSTUNE_HOME without a connection. ``form`` is what
    a record is: itself, or a conversation as other trainers write it, which becomes a flat one (``chats``)."""

    path: str = "*.jsonl"
    form: Literal["records", "messages", "alpaca", "sharegpt"] = "records"


class FilesReader:
    """Reads the files that match ``options.path`` under ``root``, or ``root`` itself if it is a file."""

    def __init__(self, source: str, root: Path, options: FilesOptions) -> None:
        self.source = source
        self.root = root
        self.options = options
        self._hashes: dict[str, str] = {}
        self._read: set[str] = set()
        self._all: set[str] = set()

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        raws = (raw for path in self.files() for raw in self._records(path))
        moments = (happened(raw.record) for raw in raws if not raw.fault)
        return max((moment for moment in moments if moment), default=None)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        """Records of all files that differ from ``position``; what is before ``floor`` is the caller's to leave out."""
        files = {self._name(path): path for path in self.files()}
        self._hashes, self._read, self._all = {}, set(), set(files)
        page = 0
        for name, path in files.items():
            try:
                digest = sha256_file(path)
            except OSError as error:
                raise self._told(name, error) from error
            if position.get(name) != digest:
                log.info("reading %s", name)
                self._read.add(name)
                for raw in self._records(path):
                    page += 1
                    yield raw
            self._hashes[name] = digest
            if page >= PAGE:
                page = 0
                yield Reached({**{known: position[known] for known in files if known in position}, **self._hashes})

    def reached(self) -> dict[str, Any]:
        return dict(self._hashes)

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return self._read, self._all

    def files(self) -> list[Path]:
        """The source's files, by name.

        Raises:
            ConfigError: there are none.
            AccessDenied: their folder may not be read.
        """
        try:
            if self.root.is_file():
                return [self.root]
            if self.root.is_dir():
                os.scandir(self.root).close()  # glob finds nothing where it may not look
            found = sorted(path for path in self.root.glob(self.options.path) if path.is_file())
        except OSError as error:
            raise self._told("the folder", error) from error
        if not found:
            todo = f"Put the file there, or correct the path in config/sources/{self.source}.yaml or its connection."
            raise ConfigError(f"no file matches {self.options.path}", str(self.root), todo)
        return found

    def _name(self, path: Path) -> str:
        """A file's name within the source; what of it is not UTF-8 is written out."""
        name = path.name if path == self.root else str(path.relative_to(self.root))
        return os.fsencode(name).decode(errors="backslashreplace")

    def _records(self, path: Path) -> Iterator[Raw]:
        name = self._name(path)
        items = formats.format_of(path.name)
        if items is None:
            raise ConfigError(f"{name} is no format that opstune reads", self.source, f"Known: {formats.KNOWN}.")
        flat, place = chats.FORMS.get(self.options.form), 0
        try:
            for place, record, fault in items(path):
                if flat and not fault:
                    record, fault = flat(record)
                yield Raw(name, f"{name}:{place}", record, fault)
        except OSError as error:
            if error.errno is not None:
                raise self._told(name, error) from error
            yield Raw(name, f"{name}:{place + 1}", "", f"the file breaks off here ({error})")

    def _told(self, name: str, error: OSError) -> OpstuneError:
        """A fault of the file system. (One without a number is pyarrow's, of a compressed file.)"""
        if isinstance(error, PermissionError):
            return AccessDenied(f"{name} may not be read", str(self.root), "Give opstune's user the right to read it.")
        todo = "Check the disk or the share; the next run goes on from here."
        return ServiceDown(f"{name} cannot be read: {error.strerror}", str(self.root), todo)


def root_of(connection: Connection | None, home: Path) -> Path:
    """The folder or file that a connection names: a path or a file:// URL; OPSTUNE_HOME without one."""
    if connection is None:
        return home
    parsed = urlparse(connection.url.get_secret_value())
    if parsed.scheme not in ("", "file"):
        raise ConfigError(
            f"a connection to files begins with {parsed.scheme}://", "connection", "Give a path or a file:// URL."
        )
    return home / unquote(parsed.path)


def _open(options: FilesOptions, opening: Opening) -> FilesReader:
    return FilesReader(opening.source, root_of(opening.connection, opening.home), options)


KIND = Kind(FilesOptions, _open, needs_connection=False)
