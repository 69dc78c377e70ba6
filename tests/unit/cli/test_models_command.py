"""What `opstune models` shows and moves, in words that fit a terminal of 80 columns and as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from stages import run_maker

from opstune import cli
from opstune.cli import app, models

RUN = "retrain_weekly-manual-2026-11-21T13-24-31.737101"
SECTIONS = ("lineage", "settings", "metrics", "sizes", "verdicts")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.0.0 was champion, 1.0.1 is."""
    home = tmp_path_factory.mktemp("models") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSTUNE_HOME", str(home))
        make_run = run_maker(home / "runs", home / "keys")
        for number, parent in enumerate((None, "1.0.0")):
            run_id = f"{RUN}-{number}"
            refs = make_run(run_id, say="a" * (number + 1))
            version = models.registry().register(refs, "incremental" if parent else "full", parent, run_id)
            models.registry().promote(version.version, who="retrain", why=f"run {run_id} passed its gate")
    return home


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSTUNE_HOME", str(home))


def ask(*words: str) -> Any:
    result = CliRunner().invoke(app, ["models", *words, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


@pytest.mark.parametrize("words", [["list"], ["show", "1.0.1"], ["diff", "1.0.0", "1.0.1"], ["diff", "1.0.0", "1.0.0"]])
def test_what_is_shown_fits_eighty_columns(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["models", *words], catch_exceptions=False).stdout.splitlines()
    assert lines
    assert max(len(line) for line in lines) <= 80
    assert not any("…" in line for line in lines)


def test_list_says_who_stands_where_and_on_what_verdict() -> None:
    rows = [{name: row[name] for name in ("version", "aliases", "mode", "parent", "verdict")} for row in ask("list")]
    assert rows == [
        {"version": "1.0.0", "aliases": "previous", "mode": "full", "parent": None, "verdict": "promote"},
        {"version": "1.0.1", "aliases": "champion", "mode": "incremental", "parent": "1.0.0", "verdict": "promote"},
    ]


def test_show_tells_lineage_sizes_and_every_move() -> None:
    told = ask("show", "1.0.0")
    assert (told["run_id"], told["verdict"], told["base"]["name"]) == (f"{RUN}-0", "promote", "tiny-ops")
    assert told["bytes"]["model.gguf"] == 1
    assert [(entry["action"], entry["who"], entry["moves"]) for entry in told["history"]] == [
        ("register", "opstune", {"challenger": [None, "1.0.0"]}),
        ("promote", "retrain", {"champion": [None, "1.0.0"], "challenger": ["1.0.0", None]}),
        (
            "promote",
            "retrain",
            {"champion": ["1.0.0", "1.0.1"], "previous": [None, "1.0.0"], "challenger": ["1.0.1", None]},
        ),
    ]


def test_diff_names_what_differs_and_nothing_else() -> None:
    found = ask("diff", "1.0.0", "1.0.1")
    changes = {section: {change["name"]: change for change in found[section]} for section in SECTIONS}
    assert changes["lineage"]["mode"] == {"name": "mode", "left": "full", "right": "incremental"}
    assert changes["lineage"]["parent"] == {"name": "parent", "left": None, "right": "1.0.0"}
    assert "base sha256" not in changes["lineage"]
    assert changes["settings"]["adapter.name"] == {"name": "adapter.name", "left": "a", "right": "aa"}
    assert "adapter.seed" not in changes["settings"]
    assert changes["sizes"]["model.gguf"] == {"name": "model.gguf", "left": 1, "right": 2}
    same = ask("diff", "1.0.0", "1.0.0")
    assert not any(same[section] for section in SECTIONS)


def test_verify_promote_and_rollback_by_one_command_each(home: Path) -> None:
    assert ask("verify", "1.0.1") == {"version": "1.0.1", "verified": True}
    assert ask("rollback", "--why", "too many restarts")["aliases"] == "champion"
    last = ask("show", "1.0.0")["history"][-1]
    assert (last["action"], last["who"], last["why"]) == ("rollback", models.ME, "too many restarts")
    assert ask("promote", "1.0.1", "--who", "anna", "--why", "it was the load balancer")["version"] == "1.0.1"
    assert ask("show", "1.0.1")["history"][-1]["who"] == "anna"
    assert [row["aliases"] for row in ask("list")] == ["previous", "champion"]


def test_a_move_needs_a_reason() -> None:
    assert CliRunner().invoke(app, ["models", "rollback"]).exit_code == 2
    refused = CliRunner().invoke(app, ["models", "rollback", "--why", " "])
    assert "the ledger keeps who moved an alias and why" in str(refused.exception)


@pytest.mark.parametrize(
    "file",
    [
        "models/1.0.1/adapter/adapter_model.safetensors",
        "models/1.0.1/gguf/model.gguf",
        "models/1.0.1/gguf/chat_template.jinja",
        "models/1.0.1/shipped_verdict/report.html",
        "models/1.0.1/shipped_verdict/verdict.json",
        "ledger/000002.json",
    ],
)
def test_what_somebody_changed_is_named_by_every_command_that_needs_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    monkeypatch.setenv("OPSTUNE_HOME", str(copy))
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    for words in (
        ["verify", "1.0.1"],
        ["show", "1.0.1"],
        ["diff", "1.0.0", "1.0.1"],
        ["promote", "1.0.1", "--why", "any"],
    ):
        monkeypatch.setattr(sys, "argv", ["opstune", "models", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == cli.FAULT
        assert file in " ".join(capsys.readouterr().err.split())
