from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collecting import RULES, Place, record
from pydantic import SecretStr

from opstune.collect import Quarantine
from opstune.collect.files.files import root_of
from opstune.errors import ConfigError
from opstune.settings import Connection


def reasons(place: Place) -> list[str]:
    return [entry.reason for entry in Quarantine(place.store, "history").entries()]


def test_json_lines_become_examples_and_a_second_run_finds_nothing(place: Place) -> None:
    place.write(*(record(number) for number in range(5)))
    first, second = place.pull(), place.pull()
    assert (first.read, first.new, first.quarantined, first.off) == (5, 5, 0, "")
    assert (second.read, second.new, second.updated, second.unchanged) == (0, 0, 0, 0)


def test_one_bad_line_never_stops_a_file(place: Place) -> None:
    path = place.write(record(1), "{half a record", "[1, 2]", "", record(2, title=None), record(3))
    path.write_bytes(path.read_bytes() + b'{"id": "I-4", \xff\xfe')
    report = place.pull()
    assert (report.read, report.new, report.quarantined) == (6, 2, 4)
    assert [
        words in reason
        for words, reason in zip(("not JSON", "no JSON object", "title", "half a line"), reasons(place), strict=True)
    ] == [True] * 4


def test_lines_that_were_appended_are_new_and_the_others_unchanged(place: Place) -> None:
    place.write(record(1), record(2))
    place.pull()
    place.write(record(1), record(2, title="renamed"), record(3))
    report = place.pull()
    assert (report.new, report.updated, report.unchanged) == (1, 1, 1)


def test_a_repaired_line_leaves_the_quarantine(place: Place) -> None:
    place.write(record(1), record(2, level="purple"))
    assert place.pull().standing == 1
    place.write(record(1), record(2))
    report = place.pull()
    assert (report.new, report.standing, reasons(place)) == (1, 0, [])


def test_a_line_that_is_still_broken_is_not_counted_again(place: Place) -> None:
    place.write(record(1), record(2, level="purple"))
    place.pull()
    place.write(record(1), record(2, level="purple"), record(3))
    report = place.pull()
    assert (report.new, report.quarantined, report.standing) == (1, 0, 1)


def test_only_the_file_that_changed_is_read_again(place: Place) -> None:
    place.write(record(1), name="incidents-1.jsonl")
    place.write(record(2, level="purple"), name="incidents-2.jsonl")
    place.pull()
    place.write(record(1), record(3), name="incidents-1.jsonl")
    report = place.pull()
    assert (report.read, report.new, report.standing) == (2, 1, 1)


def test_a_file_that_is_gone_takes_its_quarantine_along(place: Place) -> None:
    place.write(record(1))
    broken = place.write("{", name="incidents-2.jsonl")
    place.pull()
    broken.unlink()
    assert place.pull().standing == 0


def test_csv_rows_become_examples_and_a_bad_one_is_kept_back(place: Place) -> None:
    place.rules({**RULES, "read": {"path": "*.csv"}})
    place.data.mkdir(parents=True)
    with (place.data / "incidents.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerows(
            [list(record(0)), *(list(record(n, title=f'with, comma "{n}"\nand a line').values()) for n in range(3))]
        )
        writer.writerows([["I-9", "2026-01-09T10:00:00Z"], [*record(8).values(), "one too many"]])
    report = place.pull()
    assert (report.new, report.quarantined) == (3, 2)
    assert place.examples()[0].context["title"] == 'with, comma "0"\nand a line'


def test_parquet_rows_become_examples(place: Place) -> None:
    place.rules({**RULES, "read": {"path": "**/*.parquet"}, "context": {"title": "about.title"}})
    place.data.joinpath("deep").mkdir(parents=True)
    rows = [{**record(n), "about": {"title": f"nested {n}"}} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), place.data / "deep" / "incidents.parquet")
    assert place.pull().new == 3
    assert place.examples()[2].context == {"title": "nested 2"}


def test_a_parquet_file_that_is_none_is_quarantined(place: Place) -> None:
    place.rules({**RULES, "read": {"path": "*.parquet"}})
    place.data.mkdir(parents=True)
    (place.data / "incidents.parquet").write_bytes(b"PAR1 and nothing else")
    assert place.pull().quarantined == 1
    assert "not Parquet" in reasons(place)[0]


@pytest.mark.parametrize("name", ["incidents.txt", None])
def test_a_pattern_that_fits_no_readable_file_is_told(place: Place, name: str | None) -> None:
    place.rules({**RULES, "read": {"path": name or "missing*.jsonl"}})
    place.write(record(1), name=name or "incidents.jsonl")
    with pytest.raises(ConfigError, match=r"no file matches|no format"):
        place.pull()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (None, "/state"),
        ("history", "/state/history"),
        ("/data/x", "/data/x"),
        ("file:///data/with%20space", "/data/with space"),
    ],
)
def test_a_connection_to_files_is_a_path_or_a_file_url(url: str | None, path: str) -> None:
    assert root_of(url and Connection(url=SecretStr(url)), Path("/state")) == Path(path)


def test_a_connection_to_files_elsewhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="begins with s3"):
        root_of(Connection(url=SecretStr("s3://bucket")), Path("/state"))


def test_a_connection_may_name_one_file(place: Place) -> None:
    path = place.write(record(1), record(2), name="anything.jsonl")
    place.connections["opstune_files"] = path.as_uri()
    assert place.pull().new == 2
