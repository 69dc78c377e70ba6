"""Examples as Parquet: the columns that the example store and the dataset share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from pydantic_core import from_json

from opstune.artifacts import atomic_path
from opstune.errors import DataError
from opstune.examples import Example, what_is_wrong

_JSON = ("context", "answer", "corrections", "metadata")

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("skill", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("group_id", pa.string()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("context", pa.string()),
        ("answer", pa.string()),
        ("outcome", pa.string()),
        ("human_validated", pa.bool_()),
        ("rating", pa.int8()),
        ("annotator", pa.string()),
        ("corrections", pa.string()),
        ("notes", pa.string()),
        ("metadata", pa.string()),
    ]
)


def to_table(examples: Iterable[Example]) -> pa.Table:
    """One row an example; structured fields as JSON text, since their keys differ from row to row."""
    rows = []
    for example in examples:
        row = example.model_dump()
        row.update({name: json.dumps(row[name], ensure_ascii=False, default=str) for name in _JSON})
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_table(table: pa.Table) -> list[Example]:
    """The examples of a table.

    Raises:
        DataError: a row is no example; it is named.
    """
    return [_example(row) for row in table.select(SCHEMA.names).to_pylist()]


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples to one Parquet file, whole or not at all; returns how many."""
    table = to_table(examples)
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return int(table.num_rows)


def read_examples(path: Path) -> list[Example]:
    return from_table(pq.read_table(path))


def _example(row: dict[str, Any]) -> Example:
    try:
        return Example.model_validate({**row, **{name: from_json(row[name]) for name in _JSON}})
    except (ValueError, TypeError) as error:  # pydantic's, or one of from_json
        reason = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
        where = f"record {row['source_id']} of source {row['source']}"
        todo = "Correct or remove it at its source, and collect it again."
        raise DataError(f"example {row['id']} cannot be read: {reason}", where, todo) from error
