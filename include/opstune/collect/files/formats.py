"""What a file holds, record by record, in each format: JSON lines, JSON, CSV, Parquet and Arrow; compressed or not.

Everything here gives (place, record, fault): where in the file, the record or the text that is none, and why. What
cannot be read is one such fault, and the rest of the file is read on.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from opstune.collect.plain import parse_json

Item = tuple[int, Any, str]

#: Characters of a line, and of a cell, that are read; longer ones are no record but a file without line ends.
_LONGEST_LINE, _LONGEST_CELL = 2**24, 2**20
#: Characters of an overlong line that are kept to see what it is.
_SHOWN = 1000
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
#: What a value raises that Python cannot hold: text that is not UTF-8, a year 20000.
_UNREADABLE = (ValueError, OverflowError, pa.ArrowException)
_NO_TEXT = "is not UTF-8; save the file in that encoding"
_KEPT_BYTE = re.compile("[\udc80-\udcff]")


def format_of(name: str) -> Callable[[Path], Iterator[Item]] | None:
    """The reading of a file by the end of its name, or none where that is no format we know."""
    path = Path(name.lower())
    return _TEXTS.get(Path(path.stem).suffix) if path.suffix in _COMPRESSIONS else _FORMATS.get(path.suffix)


def _json_lines(path: Path) -> Iterator[Item]:
    with _text(path) as file:
        yield from _lines_of(file)


def _lines_of(file: io.TextIOBase) -> Iterator[Item]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            yield number, line[:_SHOWN], f"the line is longer than {_LONGEST_LINE} characters"
            while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith("\n"):
                pass
        elif line.strip():
            yield number, *_from_json(line, "line")


def _from_json(text: str, what: str) -> tuple[Any, str]:
    cut = "; it is the file's last and has no end, so it may be half a line"
    cut = "" if text.endswith("\n") or what != "line" else cut
    if not _is_text(text):
        return text, f"the {what} {_NO_TEXT}{cut}"
    try:
        record = parse_json(text)
    except ValueError as error:
        return text, f"the {what} is not JSON ({error}){cut}"
    return record, "" if isinstance(record, dict) else f"the {what} is no JSON object"


def _json(path: Path) -> Iterator[Item]:
    """An array of records, one record, or lines of them under another name."""
    with _text(path) as file:
        text = file.read()
    start = text.lstrip()
    if not start.startswith("["):
        record, fault = _from_json(text, "file")
        yield from _lines_of(io.StringIO(text)) if fault else [(1, record, "")]
        return
    decoder, place, number = json.JSONDecoder(parse_int=str), len(text) - len(start) + 1, 0
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        if text[place : place + 1] == "]":
            return
        number += 1
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            told = "it is nested too deeply" if isinstance(error, RecursionError) else error
            yield number, text[place : place + _SHOWN], f"the array breaks off here: what follows is not JSON ({told})"
            return
        yield number, *_from_json(text[place:end], "item")
        place = end


def _csv_rows(path: Path) -> Iterator[Item]:
    csv.field_size_limit(_LONGEST_CELL)
    with _text(path, newline="") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        header = next(reader, [])
        if len(set(header)) < len(header):
            yield 1, ",".join(header), "two columns have one name"
            return
        while True:
            number = lines.begin()
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, lines.back_to_second(), f"the row is not CSV ({error})"
                continue
            if values:
                yield lines.number, *_row(header, values)


def _row(header: list[str], values: list[str]) -> tuple[Any, str]:
    row = {key: value for key, value in zip(header, values, strict=False) if value != ""}
    if not all(map(_is_text, values)):
        return row, f"the row {_NO_TEXT}"
    more = len(values) > len(header)
    return row, f"the row has {len(values)} values for {len(header)} columns" if more else ""


class _Lines:
    """Lines that can be given again: a quote that is never closed swallows all that follow, until it is taken for
    the fault of its own line."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file = file
        self._waiting: list[str] = []
        self._given: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else self._file.readline(_LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self._given.append(line)
        return line

    def begin(self) -> int:
        """A record begins with the next line, of which this is the number."""
        self._given.clear()
        return self.number + 1

    def back_to_second(self) -> str:
        """All lines of this record but the first are still to come; returns the first."""
        first, *others = self._given
        self._waiting += reversed(others)
        self.number -= len(others)
        return first


def _parquet_rows(path: Path) -> Iterator[Item]:
    try:
        yield from _rows(pq.ParquetFile(path).iter_batches(1000))
    except (pa.ArrowException, OSError) as error:
        yield 0, "", f"the file is not Parquet ({error})"


def _arrow_rows(path: Path) -> Iterator[Item]:
    """What ``datasets`` saves to disk: an Arrow stream; also Arrow's own file format."""
    try:
        with pa.memory_map(str(path)) as file:
            try:
                yield from _rows(pa.ipc.open_stream(file))
            except pa.ArrowInvalid:
                found = pa.ipc.open_file(file)
                yield from _rows(found.get_batch(index) for index in range(found.num_record_batches))
    except (pa.ArrowException, OSError) as error:
        yield 0, "", f"the file is not Arrow ({error})"


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Item]:
    number = 0
    for batch in batches:
        try:
            for row in batch.to_pylist():
                number += 1
                yield number, row, ""
            continue
        except _UNREADABLE:
            pass
        for index in range(batch.num_rows):
            number += 1
            try:
                [row] = batch.slice(index, 1).to_pylist()
            except _UNREADABLE as error:
                yield number, "", f"the row holds what cannot be read ({error})"
                continue
            yield number, row, ""


def _text(path: Path, newline: str = "\n") -> io.TextIOBase:
    """A file as text, decompressed, in the encoding that its first bytes tell; UTF-8 without any."""
    compression = _COMPRESSIONS.get(path.suffix.lower())

    def opened() -> Any:
        return pa.input_stream(str(path), compression=compression) if compression else path.open("rb")

    with opened() as file:
        mark = file.read(3)
    encoding = next((name for bytes_, name in _MARKS.items() if mark.startswith(bytes_)), "utf-8")
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    return io.TextIOWrapper(opened(), encoding=encoding, errors=errors, newline=newline)


def _is_text(value: str) -> bool:
    """Whether nothing in it was kept as the byte that it is because it belongs to no character."""
    return value.isascii() or not _KEPT_BYTE.search(value)


_TEXTS: dict[str, Callable[[Path], Iterator[Item]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv_rows,
}
_FORMATS = {**_TEXTS, ".parquet": _parquet_rows, ".arrow": _arrow_rows}
#: The ends of names that are known, for people.
KNOWN = f"{', '.join(_FORMATS)}; texts also with .gz or .zst"
