"""Examples in a Parquet file: what cannot be read is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opstune.errors import DataError
from opstune.examples import Example, example_id
from opstune.tables import from_table, read_examples, to_table, write_examples


def example(number: int) -> Example:
    return Example(
        id=example_id("history", str(number), "triage"),
        skill="triage",
        source="history",
        source_id=f"INC-{number}",
        group_id=str(number),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        context={"title": "the disk is full"},
        answer={"severity": "SEV-1"},
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    examples = [example(1), example(2)]
    assert write_examples(tmp_path / "x.parquet", examples) == 2
    assert read_examples(tmp_path / "x.parquet") == examples


def spoilt(column: str, value: object) -> pa.Table:
    table = to_table([example(1), example(2)])
    place = table.schema.get_field_index(column)
    values = [*table.column(column).to_pylist()[:1], value]
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("context", '{"title": "the disk', "cannot be read: EOF while parsing a string"),
        ("answer", None, "cannot be read: "),
        ("answer", json.dumps(["SEV-1"]), "answer: Input should be a valid dictionary"),
        ("rating", 9, "rating: Input should be less than or equal to 5"),
    ],
    ids=["half a value", "no value", "a list", "a rule"],
)
def test_a_row_that_is_no_example_is_named_and_its_value_is_not_shown(
    column: str, value: object, reason: str, tmp_path: Path
) -> None:
    pq.write_table(spoilt(column, value), tmp_path / "x.parquet")
    with pytest.raises(DataError) as raised:
        read_examples(tmp_path / "x.parquet")
    assert f"example {example(2).id} " in raised.value.what and reason in raised.value.what
    assert raised.value.where == "record INC-2 of source history"
    assert "the disk" not in str(raised.value) and "['SEV-1']" not in str(raised.value)
    assert from_table(spoilt(column, value).slice(0, 1)) == [example(1)]
