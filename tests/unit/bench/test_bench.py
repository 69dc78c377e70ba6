from __future__ import annotations

import json
from pathlib import Path

import pytest

from opstune.bench import __main__ as command
from opstune.bench.building import STEPS
from opstune.bench.corpus import history
from opstune.bench.environments import interpreter
from opstune.bench.rows import ON_REQUEST, ROWS, Measured, python
from opstune.errors import ConfigError, ServiceDown


@pytest.mark.parametrize(
    "name",
    ["dataset_build_10k", "dataset_build_100k", "dataset_build_100k_peak_rss_mb", "near_duplicates_vs_datatrove"],
)
def test_the_fixed_rows_are_part_of_a_plain_bench(name: str) -> None:
    assert name in ROWS
    assert name not in ON_REQUEST


@pytest.mark.parametrize(
    "name",
    [
        "incremental_vs_full_seconds",
        "incremental_vs_full_points",
        *(f"incremental_forgetting_points_{strategy}" for strategy in ("proportional", "balanced", "recent")),
    ],
)
def test_going_on_from_a_champion_is_measured_on_request(name: str) -> None:
    """Three seeds of real trainings take longer than all other rows together."""
    assert name in ROWS
    assert name in ON_REQUEST


@pytest.mark.parametrize(
    "name",
    [
        "evaluate_batched_vs_naive",
        "evaluate_p95_ms_hugging_face",
        "evaluate_p95_ms_llama_cpp",
        "evaluate_p95_ms_endpoint",
    ],
)
def test_evaluation_is_part_of_a_plain_bench(name: str) -> None:
    assert name in ROWS
    assert name not in ON_REQUEST


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("gate_false_pass_88_at_90", 0.0, 0.01),
        ("gate_true_pass_97_at_90", 0.95, 1.0),
        ("gate_true_pass_97_at_95", 0.93, 0.955),
        ("gate_true_pass_97_at_95_of_1150", 0.95, 0.98),
    ],
)
def test_the_gate_s_own_lines_let_through_what_they_should(name: str, least: float, most: float) -> None:
    """Drawn and exact. At 1,000 cases a true 97 % passes in 93.8 %: 962 right are needed to prove more than 95 %."""
    measured = ROWS[name]()
    assert measured.n == 2000
    assert least <= measured.value <= most
    assert measured.baseline is not None
    assert abs(measured.value - measured.baseline) < 0.015


def test_a_million_examples_are_measured_on_request_only() -> None:
    assert "dataset_build_1m" in ROWS
    assert "dataset_build_1m" in ON_REQUEST


def test_an_unknown_row_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no such row: dataset_build_7"):
        command.main(["dataset_build_7"])


@pytest.mark.parametrize(("baseline", "ratio"), [(4.0, 2.5), (None, None)])
def test_a_ratio_is_value_over_baseline(baseline: float | None, ratio: float | None) -> None:
    assert Measured(10.0, "examples/s", baseline, 1).ratio == ratio


def test_a_peer_that_cannot_be_installed_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ServiceDown, match="not measured"):
        interpreter(tmp_path / "venv", [str(tmp_path / "no-such-package")])


def test_every_step_of_a_build_is_clocked(tmp_path: Path) -> None:
    """A step whose function was renamed fails here, not in the next long measurement."""
    found = history(tmp_path, days=30)
    facts = json.loads(python("-m", "opstune.bench.building", str(tmp_path), str(found.settings.simulate.days)))
    assert facts["examples"] == found.examples.counts["rows"]
    assert set(facts["steps"]) == set(STEPS)
    assert all(0 < seconds < facts["seconds"] for seconds in facts["steps"].values())
    assert sum(facts["steps"].values()) > 0.7 * facts["seconds"]
    assert facts["peak_mb"] > 50
