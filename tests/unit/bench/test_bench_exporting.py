from __future__ import annotations

import pytest

from opstune.bench import __main__ as command
from opstune.bench import exporting
from opstune.bench.rows import ON_REQUEST, ROWS
from opstune.errors import DataError


@pytest.mark.parametrize("name", ["export_right_q4_k_m", "export_right_q5_k_m", "export_right_q8_0"])
def test_what_quantising_costs_is_part_of_a_plain_bench_and_asks_for_a_demo(name: str) -> None:
    assert exporting in command.MODULES and name not in ON_REQUEST
    with pytest.raises(DataError, match="no demo has run here"):
        ROWS[name]()


def test_a_4_bit_training_is_measured_on_request_only() -> None:
    assert "export_qlora_merge_loss" in ON_REQUEST
