"""What files hold, in every format and every state: one bad line never stops a file."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collecting import RULES, Place, record

from opstune.collect import Quarantine
from opstune.collect.files import formats

GOOD = [json.dumps(record(number)).encode() for number in (1, 2)]


def reasons(place: Place) -> list[str]:
    return [entry.reason for entry in Quarantine(place.store, "history").entries()]


def put(place: Place, name: str, content: bytes) -> Path:
    place.rules({**RULES, "read": {"path": name}})
    place.data.mkdir(parents=True, exist_ok=True)
    path = place.data / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{half a record", "not JSON"),
        (b"[1, 2]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"\x00\x00\x00", "not JSON"),
        (b'{"id": "I-\xe9"}', "not UTF-8; save the file"),
        (b'{"id": "I-9", "id": "I-8"}', "the key 'id' stands twice, with different values"),
        (b'{"a":' * 100_000, "nested"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"}{", "not JSON"),
        ('{"id": "I-9", "title": "other line\u2028ends\x85", "level": "purple"}'.encode(), "'purple' is not in"),
        (b"\xef\xbb\xbf", "not JSON"),
    ],
)
def test_a_bad_line_is_told_and_those_around_it_are_read(place: Place, line: bytes, told: str) -> None:
    put(place, "incidents.jsonl", b"\n".join([GOOD[0], line, GOOD[1], b""]))
    report = place.pull()
    assert (report.new, report.quarantined) == (2, 1)
    assert told in reasons(place)[0] and "half a line" not in reasons(place)[0]
    assert Quarantine(place.store, "history").entries()[0].origin == "incidents.jsonl:2"


def test_a_line_without_end_is_passed_over_without_holding_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_LONGEST_LINE", 5000)
    put(place, "incidents.jsonl", b"\n".join([GOOD[0], b'{"log": "' + b"x" * 50_000 + b'"}', GOOD[1], b"y" * 5000]))
    report = place.pull()
    assert (report.new, report.quarantined) == (2, 2)
    assert all("longer than 5000 characters" in reason for reason in reasons(place))
    assert len(Quarantine(place.store, "history").entries()[0].raw) == 1000


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ({"title": "a \ud83d half"}, "a \ufffd half"),
        ({"title": "nul \x00 and bell \x07"}, "nul \x00 and bell \x07"),
        ({"title": "\U0001f600" * 2000}, "\U0001f600" * 2000),
        ({"title": "x", "reading": float("nan"), "most": float("inf")}, "x"),
    ],
)
def test_odd_values_are_kept_as_json_can_hold_them(place: Place, line: dict[str, Any], title: str) -> None:
    context = {"title": "title", "reading": {"from": "reading", "optional": True}}
    put(place, "incidents.jsonl", json.dumps(record(1, **line)).encode())
    place.rules({**RULES, "context": context})
    assert place.pull().new == 1
    found = place.examples()[0].context
    assert found["title"] == title and found.get("reading") in (None, "NaN")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_mark_at_the_beginning_tells_the_encoding(place: Place, encoding: str, ending: str) -> None:
    text = ending.join(json.dumps(record(number, title="caf\u00e9"), ensure_ascii=False) for number in (1, 2))
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    put(place, "incidents.jsonl", mark + text.encode(encoding))
    assert (place.pull().new, place.examples()[0].context["title"]) == (2, "caf\u00e9")


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def as_csv(numbers: range) -> bytes:
    text = io.StringIO()
    rows = csv.DictWriter(text, list(record(0)))
    rows.writeheader()
    rows.writerows(record(number) for number in numbers)
    return text.getvalue().encode()


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstd}


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("incidents.jsonl", b"\n".join(GOOD)),
        ("incidents.CSV", as_csv(range(1, 3))),
        ("incidents.json", b"[" + b",\n".join(GOOD) + b"]"),
    ],
)
def test_compressed_files_are_read(place: Place, name: str, content: bytes, compression: str) -> None:
    put(place, f"{name}.{compression}", COMPRESSED[compression](content))
    assert place.pull().new == 2


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_compressed_file_that_breaks_off_is_read_as_far_as_it_goes(place: Place, compression: str) -> None:
    lines = b"\n".join(
        json.dumps(record(n, title=hashlib.sha512(str(n).encode()).hexdigest() * 2)).encode() for n in range(3000)
    )
    whole = COMPRESSED[compression](lines)
    path = put(place, f"incidents.jsonl.{compression}", whole[: len(whole) // 2])
    report = place.pull()
    assert 0 < report.new < 3000 and report.quarantined >= 1
    assert "breaks off here (Truncated" in reasons(place)[-1]
    path.write_bytes(whole)
    report = place.pull()
    assert (len(place.examples()), report.standing) == (3000, 0)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_what_is_not_compressed_at_all_is_told(place: Place, compression: str) -> None:
    put(place, f"incidents.jsonl.{compression}", b"\n".join(GOOD))
    assert (place.pull().quarantined, "breaks off" in reasons(place)[0]) == (1, True)


@pytest.mark.parametrize(
    ("content", "new", "told"),
    [
        (b" [\n" + b" ,\n".join(GOOD) + b"\n]\n", 2, []),
        (b"[]", 0, []),
        (GOOD[0], 1, []),
        (json.dumps(record(1), indent=2).encode(), 1, []),
        (b"\n".join(GOOD), 2, []),
        (b"[" + GOOD[0] + b", 7, " + GOOD[1] + b"]", 2, ["the item is no JSON object"]),
        (b"[" + GOOD[0] + b', {"id": 1, "id": 2}, ' + GOOD[1] + b"]", 2, ["stands twice"]),
        (b"[" + GOOD[0] + b', {"id": ' + b"9" * 5000 + b"}, " + GOOD[1] + b"]", 2, ["the item is not JSON"]),
        (b"[" + GOOD[0] + b', {"id": "I-', 1, ["the array breaks off here"]),
        (b"[" + GOOD[0], 1, ["the array breaks off here"]),
        (b"[" + GOOD[0] + b", " + b"[" * 100_000, 1, ["nested"]),
        (b"nothing of the kind", 0, ["not JSON"]),
        (b"", 0, []),
    ],
)
def test_a_json_file_is_an_array_a_record_or_lines(place: Place, content: bytes, new: int, told: list[str]) -> None:
    put(place, "incidents.json", content)
    assert place.pull().new == new
    assert [any(words in reason for words in told) for reason in reasons(place)] == [True] * len(told)


HEAD = ",".join(record(0)).encode()


def row(number: int, **changes: str) -> bytes:
    return ",".join(str(value) for value in record(number, **changes).values()).encode()


@pytest.mark.parametrize(
    ("lines", "read", "told"),
    [
        ([row(1), row(2, title='"never closed'), row(3), row(4)], {1, 3, 4}, "unexpected end of data"),
        (
            [row(1), row(2, title='"never closed'), row(3, title='"in, quotes"'), row(4)],
            {1, 3, 4},
            "not CSV",
        ),
        ([row(1), row(2, title='"a" quote inside'), row(3)], {1, 3}, "not CSV"),
        ([row(1), b"I-2", row(3)], {1, 3}, "at is missing"),
        ([row(1), row(2) + b",more,and more", row(3)], {1, 3}, "6 values for 4 columns"),
        ([row(1), row(2, title="caf").replace(b"caf", b"caf\xe9"), row(3)], {1, 3}, "not UTF-8"),
        ([row(1), row(2, title="x" * 2_000_000), row(3)], {1, 3}, "field limit"),
        ([row(1), b"", row(3)], {1, 3}, ""),
        ([row(1, title='"two\r\nlines"'), row(3, title='"two\nlines"')], {1, 3}, ""),
    ],
)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_bad_csv_row_is_told_and_those_around_it_are_read(
    place: Place, lines: list[bytes], read: set[int], told: str, ending: bytes
) -> None:
    put(place, "incidents.csv", ending.join([HEAD, *lines, b""]))
    report = place.pull()
    assert {example.source_id for example in place.examples()} == {f"I-{number}" for number in read}
    assert report.quarantined == bool(told)
    assert told in "".join(reasons(place))


@pytest.mark.parametrize(
    ("content", "told"), [(b"", ""), (HEAD, ""), (b"id,at,id\n1,2,3\n", "two columns have one name")]
)
def test_a_csv_file_without_rows_or_with_one_name_twice(place: Place, content: bytes, told: str) -> None:
    put(place, "incidents.csv", content)
    assert (place.pull().new, told in "".join(reasons(place))) == (0, True)


def test_a_parquet_row_that_python_cannot_hold_does_not_stop_the_others(place: Place) -> None:
    path = put(place, "incidents.parquet", b"")
    columns = {key: [record(number)[key] for number in range(3)] for key in record(0)}

    raw = pa.array([b"fine", b"\xff\xfe", b"fine"])
    columns["title"] = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table(columns), path)
    report = place.pull()
    assert (report.new, report.quarantined) == (2, 1)
    assert "cannot be read" in reasons(place)[0]


def test_times_and_numbers_out_of_parquet_are_read(place: Place) -> None:
    path = put(place, "incidents.parquet", b"")
    moments = pa.array([1767607200 * 10**9 + 1, 2**62], pa.timestamp("ns", "UTC"))
    table = pa.table({"id": [1, 2], "at": moments, "title": ["a", "b"], "level": ["high", "low"]})
    pq.write_table(table, path)
    report = place.pull()
    assert (report.new, report.quarantined) == (1, 1)
    assert place.examples()[0].occurred_at.isoformat() == "2026-01-05T10:00:00+00:00"


@pytest.mark.parametrize("opened", [pa.ipc.new_stream, pa.ipc.new_file])
def test_what_datasets_saves_to_disk_is_read(place: Place, opened: Any) -> None:
    path = put(place, "data.arrow", b"")
    table = pa.Table.from_pylist([record(number) for number in range(3)])
    with opened(str(path), table.schema) as sink:
        sink.write_table(table)
    assert place.pull().new == 3


@pytest.mark.parametrize("name", ["data.arrow", "data.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"nothing of the kind" * 100])
def test_a_binary_file_of_another_kind_is_told(place: Place, name: str, content: bytes) -> None:
    put(place, name, content)
    assert (place.pull().quarantined, "the file is not" in reasons(place)[0]) == (1, True)


@pytest.mark.parametrize("name", ["a.txt", "a.parquet.gz", "a.gz", "jsonl"])
def test_an_unknown_ending_is_no_format(name: str) -> None:
    assert formats.format_of(name) is None
