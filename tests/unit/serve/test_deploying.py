"""The order of a deployment: prepared, promoted, switched to; and what is taken back when one of them fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from opstune import pipeline, settings
from opstune.cli import app
from opstune.errors import DeployError, InputError, OpstuneError, ServiceDown
from opstune.http import time_left
from opstune.pipeline import deploying


class Books:
    """A registry with two versions, of which the first is champion, and a place; both write into one list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.standing: list[str] = ["1.0.0"]
        self.rejected: set[str] = set()
        self.fails: dict[str, OpstuneError] = {}
        self.left: dict[str, float] = {}

    def list(self) -> list[Any]:
        """The two, of which the one that is not champion was so before."""
        aliases = dict(zip(self.standing[::-1], ("champion", "previous"), strict=False))
        return [SimpleNamespace(version=version, aliases=(alias,)) for version, alias in aliases.items()]

    def proven(self, version: str) -> Any:
        if version in self.rejected:
            raise InputError(f"the verdict on {version} is reject")
        return SimpleNamespace(version=version, folder=self.folder / version, base=SimpleNamespace(name="tiny-ops"))

    def champion(self) -> Any:
        return SimpleNamespace(version=self.standing[-1]) if self.standing else None

    def promote(self, version: str, *, who: str, why: str) -> Any:
        self.told.append(f"promote {version}")
        self.standing += [] if self.standing[-1:] == [version] else [version]
        return self.proven(version)

    def rollback(self, *, who: str, why: str) -> Any:
        self.told.append("rollback")
        self.standing[-2:] = reversed(self.standing[-2:])
        return self.proven(self.standing[-1])

    def prepare(self, release: Any) -> list[str]:
        return self._do("prepare", release)

    def switch(self, release: Any) -> list[str]:
        return self._do("switch", release)

    def _do(self, what: str, release: Any) -> list[str]:
        self.told.append(f"{what} {release.name}")
        self.left[what] = time_left()
        if what in self.fails:
            raise self.fails[what]
        return [f"{what} done"]


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Books:
    made = Books(tmp_path)
    own_home.mkdir()

    @contextmanager
    def place(*_: Any) -> Iterator[Books]:
        yield made

    monkeypatch.setattr(deploying, "_registry", lambda settings: made)
    monkeypatch.setattr(deploying, "target_of", place)
    return made


def deploy(version: str) -> pipeline.Deployed:
    return pipeline.deploy_to("ollama", version, settings.load(), who="me", why="why")


def test_a_version_is_prepared_then_promoted_then_switched_to(books: Books) -> None:
    done = deploy("1.0.1")
    assert books.told == ["prepare opstune:1.0.1", "promote 1.0.1", "switch opstune:1.0.1"]
    assert (done.before, done.steps, books.standing[-1]) == ("1.0.0", ("prepare done", "switch done"), "1.0.1")


def test_a_version_whose_verdict_does_not_allow_it_is_sent_nowhere(books: Books) -> None:
    books.rejected.add("1.0.1")
    with pytest.raises(InputError, match="reject"):
        deploy("1.0.1")
    assert books.told == []


@pytest.mark.parametrize("error", [DeployError("other answers"), ServiceDown("no answer")])
def test_a_version_that_cannot_be_prepared_is_not_promoted(books: Books, error: OpstuneError) -> None:
    books.fails["prepare"] = error
    with pytest.raises(type(error)):
        deploy("1.0.1")
    assert books.standing == ["1.0.0"] and "promote 1.0.1" not in books.told


def test_a_version_that_production_refuses_is_champion_no_more(books: Books) -> None:
    books.fails["switch"] = DeployError("other answers")
    with pytest.raises(DeployError):
        deploy("1.0.1")
    assert books.standing[-1] == "1.0.0" and books.told[-1] == "rollback"


def test_an_outage_while_switching_leaves_the_promotion_to_the_next_attempt(books: Books) -> None:
    books.fails["switch"] = ServiceDown("no answer")
    with pytest.raises(ServiceDown):
        deploy("1.0.1")
    books.fails.clear()
    assert deploy("1.0.1").before == "1.0.1" and books.standing == ["1.0.0", "1.0.1"]


def test_taking_a_version_in_is_given_up_in_time_and_putting_back_is_not(books: Books) -> None:
    done = deploy("1.0.1")
    assert 290 < books.left["prepare"] <= 300 and books.left["switch"] == math.inf
    assert 0 < done.seconds < 10


def test_going_back_moves_the_alias_alone_where_the_champion_answers_in_this_process(books: Books) -> None:
    books.standing = ["1.0.0", "1.0.1"]
    assert pipeline.roll_back(settings.load(), who="me", why="why").version == "1.0.0"
    assert books.told == ["rollback"]


AT_OLLAMA = {"serve": {"deploy": {"to": "ollama"}}}


def test_going_back_at_a_server_is_prepared_moved_and_switched_to(books: Books) -> None:
    books.standing = ["1.0.0", "1.0.1"]
    assert pipeline.roll_back(settings.load(AT_OLLAMA), who="me", why="why").version == "1.0.0"
    assert books.told == ["prepare opstune:1.0.0", "rollback", "switch opstune:1.0.0"]
    assert books.standing[-1] == "1.0.0"


@pytest.mark.parametrize(
    ("at", "error"), [("prepare", ServiceDown("no answer")), ("switch", DeployError("other answers"))]
)
def test_going_back_to_what_does_not_answer_changes_nothing(books: Books, at: str, error: OpstuneError) -> None:
    books.standing = ["1.0.0", "1.0.1"]
    books.fails[at] = error
    with pytest.raises(type(error)):
        pipeline.roll_back(settings.load(AT_OLLAMA), who="me", why="why")
    assert books.standing == ["1.0.0", "1.0.1"]


@pytest.mark.parametrize("standing", [[], ["1.0.1"]])
def test_without_another_champion_there_is_nothing_to_go_back_to(books: Books, standing: list[str]) -> None:
    books.standing, books.fails["switch"] = standing, DeployError("other answers")
    with pytest.raises(DeployError):
        deploy("1.0.1")
    assert "rollback" not in books.told


def test_the_command_says_who_answers_now_in_eighty_columns(books: Books) -> None:
    said = CliRunner().invoke(app, ["deploy", "1.0.1", "--to", "ollama"], env={"COLUMNS": "80"})
    assert said.exit_code == 0, said.output
    assert said.stdout == "1.0.1 answers: ollama. It is the champion (before: 1.0.0).\n"
