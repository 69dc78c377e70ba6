"""Source ``files``: JSON lines, CSV and Parquet. A file that changed is read again as a whole; the store's upsert
keeps what was there, so that appended, rewritten and repaired files are all the same case."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

from opstune.artifacts import sha256_file
from opstune.collect.source import Kind, Opening, Raw
from opstune.errors import ConfigError
from opstune.settings import Connection, Section

log = logging.getLogger(__name__)


class FilesOptions(Section):
    """``path`` is a glob under the connection's folder, or under OPSTUNE_HOME without a connection."""

    path: str = "*.jsonl"


class FilesReader:
    """Reads the files that match ``pattern`` under ``root``, or ``root`` itself if it is a file."""

    def __init__(self, source: str, root: Path, pattern: str) -> None:
        self.source = source
        self.root = root
        self.pattern = pattern
        self._hashes: dict[str, str] = {}
        self._read: set[str] = set()

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        raws = (raw for path in self.files() for raw in self._records(path))
        moments = (happened(raw.record) for raw in raws if not raw.fault)
        return max((moment for moment in moments if moment), default=None)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw]:
        """Records of all files that differ from ``position``; what is before ``floor`` is the caller's to leave out."""
        self._hashes, self._read = {}, set()
        for path in self.files():
            name = self._name(path)
            digest = sha256_file(path)
            if position.get(name) != digest:
                log.info("reading %s", name)
                self._read.add(name)
                yield from self._records(path)
            self._hashes[name] = digest

    def reached(self) -> dict[str, Any]:
        return dict(self._hashes)

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return self._read, self._hashes

    def files(self) -> list[Path]:
        """The source's files, by name.

        Raises:
            ConfigError: there are none.
        """
        if self.root.is_file():
            return [self.root]
        found = sorted(path for path in self.root.glob(self.pattern) if path.is_file())
        if not found:
            todo = f"Put the file there, or correct the path in config/sources/{self.source}.yaml or its connection."
            raise ConfigError(f"no file matches {self.pattern or '*.jsonl'}", str(self.root), todo)
        return found

    def _name(self, path: Path) -> str:
        return path.name if path == self.root else str(path.relative_to(self.root))

    def _records(self, path: Path) -> Iterator[Raw]:
        name = self._name(path)
        forms = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_rows, ".parquet": _parquet_rows}
        form = forms.get(path.suffix)
        if form is None:
            raise ConfigError(f"{name} is no format that opstune reads", self.source, f"Known: {', '.join(forms)}.")
        for place, record, fault in form(path):
            yield Raw(name, f"{name}:{place}", record, fault)


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


def _json_lines(path: Path) -> Iterator[tuple[int, Any, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                cut = (
                    ""
                    if line.endswith(b"\n")
                    else "; the line is the file's last and has no end, so it may be half a line"
                )
                yield number, line.decode(errors="replace"), f"the line is not JSON ({error}){cut}"
                continue
            yield number, record, "" if isinstance(record, dict) else "the line is no JSON object"


def _csv_rows(path: Path) -> Iterator[tuple[int, Any, str]]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, "", f"the row is not CSV ({error})"
                continue
            fault = f"the row has {len(row['']) + len(row) - 1} values for {len(row) - 1} columns" if "" in row else ""
            yield reader.line_num, {key: value for key, value in row.items() if value not in ("", None)}, fault


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any, str]]:
    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(1000):
            for row in batch.to_pylist():
                number += 1
                yield number, row, ""
    except (pa.ArrowInvalid, OSError) as error:
        yield 0, "", f"the file is not Parquet ({error})"


def _open(options: FilesOptions, opening: Opening) -> FilesReader:
    return FilesReader(opening.source, root_of(opening.connection, opening.home), options.path)


KIND = Kind(FilesOptions, _open, needs_connection=False)
