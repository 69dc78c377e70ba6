from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opstune.errors import ConfigError
from opstune.settings import SimulateSettings
from opstune.simulate import TRUTH, Truth, extras, simulate_examples, write_history
from opstune.simulate.dirt import RATES
from opstune.skills import get

History = tuple[Path, Truth]


def content(folder: Path) -> dict[str, object]:
    files: dict[str, object] = {path.name: path.read_bytes() for path in folder.glob("*.json*")}
    with closing(sqlite3.connect(folder / "oncall.db")) as database:
        return {**files, "dump": list(database.iterdump())}


def test_the_same_seed_writes_the_same_bytes(history: History, small: SimulateSettings, tmp_path: Path) -> None:
    write_history(tmp_path, small)
    assert content(tmp_path) == content(history[0])


def test_another_seed_writes_another_history(history: History, small: SimulateSettings, tmp_path: Path) -> None:
    write_history(tmp_path, small.model_copy(update={"seed": 8}))
    assert content(tmp_path)["dump"] != content(history[0])["dump"]


def test_weeks_added_one_by_one_equal_all_at_once(history: History, small: SimulateSettings, tmp_path: Path) -> None:
    shutil.copytree(history[0], tmp_path / "grown")
    write_history(tmp_path / "grown", small, weeks_after=1)
    write_history(tmp_path / "grown", small, weeks_after=2)
    write_history(tmp_path / "once", small, weeks_after=2)
    assert content(tmp_path / "grown") == content(tmp_path / "once")


def test_a_further_week_leaves_what_stands_there(history: History, small: SimulateSettings, tmp_path: Path) -> None:
    shutil.copytree(history[0], tmp_path, dirs_exist_ok=True)
    truth = write_history(tmp_path, small, weeks_after=1)
    assert (truth.through - history[1].through).days == 7
    for name in history[1].sizes:
        before = (history[0] / f"{name}.jsonl").read_bytes()
        assert (tmp_path / f"{name}.jsonl").read_bytes().startswith(before)
    before_rows, after_rows = content(history[0])["dump"], content(tmp_path)["dump"]
    assert isinstance(before_rows, list) and isinstance(after_rows, list)
    assert set(before_rows) < set(after_rows)


def test_asking_for_what_stands_there_changes_nothing(history: History, small: SimulateSettings) -> None:
    before = content(history[0])
    assert write_history(history[0], small) == history[1]
    assert content(history[0]) == before


def test_a_write_that_was_killed_is_made_good(history: History, small: SimulateSettings, tmp_path: Path) -> None:
    shutil.copytree(history[0], tmp_path / "killed")
    with (tmp_path / "killed" / "task_logs.jsonl").open("ab") as file:
        file.write(b"\n" + b'{"id": "of a week that was never finished"}\n' * 3)
    write_history(tmp_path / "killed", small, weeks_after=1)
    write_history(tmp_path / "whole", small, weeks_after=1)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_history_of_other_settings_is_not_written_over(history: History, small: SimulateSettings) -> None:
    with pytest.raises(ConfigError, match="other settings"):
        write_history(history[0], small.model_copy(update={"days": 10}))


def test_the_history_ends_where_it_is_told_to(small: SimulateSettings, tmp_path: Path) -> None:
    truth = write_history(tmp_path, small, until=datetime(2024, 3, 1, 15, 30, tzinfo=UTC))
    with closing(sqlite3.connect(tmp_path / "oncall.db")) as database:
        first, last = database.execute("SELECT min(opened_at), max(updated_at) FROM incidents").fetchone()
    assert truth.through == datetime(2024, 3, 1, tzinfo=UTC)
    assert "2024-02-21" <= first < "2024-02-22" and "2024-02-29" <= last < "2024-03-01"


def test_every_kind_of_dirt_is_planted_and_told(history: History) -> None:
    told = {"broken_record" if kind.startswith("broken") else kind for kind in (*RATES, *extras.RATES)} | {"half_line"}
    leaks = {f"leak_in_{skill}" for skill in ("diagnosis", "audit", "code_review", "workflow")}
    assert set(history[1].dirt) == (told | leaks) - {"leak"}


def test_an_exact_duplicate_differs_in_its_id_alone(history: History) -> None:
    folder, truth = history
    repeated = [row_id for row_id in truth.dirt["exact_duplicate"] if row_id.startswith("RA")]
    query = "SELECT name, severity, status, summary, description, labels FROM alerts WHERE id = ?"
    with closing(sqlite3.connect(folder / "oncall.db")) as database:
        for row_id in repeated:
            copy = "AL" + row_id.removeprefix("RA")
            pair = [database.execute(query, [alert]).fetchone() for alert in (copy, copy.removesuffix("x"))]
            assert pair[0] == pair[1] is not None


def test_a_failed_remediation_precedes_the_right_one_of_its_alert(history: History) -> None:
    folder, truth = history
    failed = [row_id for row_id in truth.dirt["failed_remediation"] if row_id.startswith("RA")]
    assert failed
    with closing(sqlite3.connect(folder / "oncall.db")) as database:
        for row_id in failed:
            alert_id, wrong = database.execute(
                "SELECT alert_id, function FROM remediation_actions WHERE id = ?", [row_id]
            ).fetchone()
            rows = database.execute(
                "SELECT outcome, function FROM remediation_actions WHERE alert_id = ?", [alert_id]
            ).fetchall()
            assert ("failure", wrong) in rows and any(
                outcome == "success" and right != wrong for outcome, right in rows
            )


def test_every_planted_secret_stands_in_the_exports(history: History) -> None:
    folder, truth = history
    raw = b"".join(path.read_bytes() for path in folder.iterdir() if path.name != TRUTH).decode(errors="replace")
    assert truth.secrets and all(secret in raw for secret in truth.secrets)


def test_the_export_breaks_off_in_the_middle_of_its_last_line(history: History) -> None:
    last = (history[0] / "task_logs.jsonl").read_text().splitlines()[-1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)


def test_every_simulated_example_is_valid_under_its_skill() -> None:
    for example in simulate_examples(SimulateSettings(seed=3), 400):
        skill = get(example.skill)
        assert skill.context_model.model_validate(example.context)
        assert skill.answer_model.model_validate(example.answer).model_dump() == example.answer
