"""The note on a DAG run: what fits into it."""

from __future__ import annotations

import pytest

from opstune_airflow.run_note import fitting


@pytest.mark.parametrize(
    ("told", "note"),
    [
        (["It is the champion.", "It passed."], "It is the champion.\n\nIt passed."),
        (["a" * 600, "b" * 398], "a" * 600 + "\n\n" + "b" * 398),
        (["a" * 600, "b" * 399, "c"], "a" * 600),
        (["a" * 1000, "b"], "a" * 1000),
        (["a" * 1001], "a" * 996 + " ..."),
    ],
)
def test_a_note_holds_whole_paragraphs_and_never_more_than_its_column(told: list[str], note: str) -> None:
    assert fitting(told) == note
    assert len(fitting(told)) <= 1000
