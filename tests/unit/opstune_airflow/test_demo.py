"""What the demo may throw away, and the table that it ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from opstune.errors import ConfigError
from opstune.evaluate import Gate, Verdict
from opstune.evaluate.evidence import Seen, ShareSeen
from opstune.evaluate.verdict import decide, judge
from opstune_airflow import demo
from opstune_airflow.standalone import Standalone


def put(home: Path, *names: str) -> None:
    for name in names:
        (home / name).mkdir(parents=True, exist_ok=True)


def test_the_demo_before_is_thrown_away_but_neither_downloads_nor_measurements(tmp_path: Path) -> None:
    demo.clean(Standalone(tmp_path))
    demo._remember(tmp_path, "first", "second")
    put(tmp_path, "runs/first", "runs/second", "models/1.0.0", "examples/x", "tools/llama", "bench.json", "airflow")
    demo.clean(Standalone(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([demo.MARK, "tools", "bench.json"])


def test_an_airflow_that_has_done_nothing_yet_may_go(tmp_path: Path) -> None:
    put(tmp_path, "airflow/logs", "tools", "history")
    demo.clean(Standalone(tmp_path))
    assert not (tmp_path / "airflow").exists()


@pytest.mark.parametrize("work", ["runs/retrain_weekly-scheduled", "models/1.0.0", "examples/source=incidents"])
def test_work_that_no_demo_made_is_never_touched(tmp_path: Path, work: str) -> None:
    put(tmp_path, work)
    with pytest.raises(ConfigError, match="not the demo's"):
        demo.clean(Standalone(tmp_path))
    assert (tmp_path / work).is_dir()


def test_a_run_of_somebody_in_the_demos_home_keeps_all_of_it(tmp_path: Path) -> None:
    demo.clean(Standalone(tmp_path))
    demo._remember(tmp_path, "first")
    put(tmp_path, "runs/first", "runs/mine", "models/1.0.0")
    with pytest.raises(ConfigError, match="runs/mine"):
        demo.clean(Standalone(tmp_path))
    assert (tmp_path / "models/1.0.0").is_dir()


def test_the_table_shows_n_value_bound_threshold_base_and_champion() -> None:
    gate = Gate(skill="remediation", metric="function", direction="above", threshold=0.9)
    line = judge(gate, Seen(ShareSeen(970, 1000), base=0.01, champion=0.95), reach=10)
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as said:
        console.print(demo.table(decide([line]), "the challenger"))
    text = said.get()
    for word in ("remediation function", "1,000", "97.0 %", "> 90 %", "1.0 %", "95.0 %", "Promoted"):
        assert word in text


def test_a_verdict_without_lines_is_still_a_table() -> None:
    assert demo.table(Verdict(verdict="insufficient_data", sentence="Cannot say.", lines=[]), "x").row_count == 0
