"""Merges out of real clones, through the real git."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from git_history import BEGIN, Repository
from needs import program
from source_place import SourcePlace

from opstune.collect.merges import git_clone
from opstune.collect.merges.git import GitOptions, GitReader
from opstune.collect.source import ALWAYS, Raw, Reached
from opstune.errors import ConfigError, ServiceDown

SOURCE = "clone_reviews"


@pytest.fixture(autouse=True)
def needs_git() -> None:
    program("git", "apt-get install git")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "clones" / "shop")
    made.commit("straight to main (not a pull request)", {"deploy/main.tf": 'name = "a"\npassword = "x"\n'})
    made.merge(1, "Fix hard-coded password", {"deploy/main.tf": 'name = "a"\npassword = var.p\n'}, "Closes OPS-4")
    made.merge(2, "Grow the pool", {"deploy/main.tf": 'name = "b"\npassword = var.p\n'})
    made.commit("Fix the rotation (#3)", {"scripts/rotate.sh": "rm -rf $DIR\n", "deploy/main.tf": "name = 'c'\n"})
    made.commit("Fix the rotation again (#4)", {"scripts/rotate.sh": "rm -rf ./old\n", "logo.png": b"\x00\x01"})
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Repository) -> SourcePlace:
    place = SourcePlace(tmp_path / "place", monkeypatch, SOURCE)
    place.connect("opstune_repository", str(repository.path))
    return place


def reader(root: Path, seconds: float = 20.0, **options: Any) -> GitReader:
    return GitReader(GitOptions.model_validate(options), root, "clones", seconds)


def read(root: Path, **options: Any) -> dict[str, Any]:
    given = reader(root, **options).read({}, ALWAYS)
    return {raw.origin: raw.record for raw in given if isinstance(raw, Raw)}


def test_merges_and_squashed_ones_that_fix_something_become_reviews(place: SourcePlace) -> None:
    report = place.pull()
    assert (report.new, report.quarantined) == (3, 0)
    found = {(one.metadata["number"], one.context["path"]): one for one in place.examples()}
    first = found[1, "deploy/main.tf"]
    assert first.context == {"path": "deploy/main.tf", "kind": "infrastructure", "code": 'name = "a"\npassword = "x"'}
    finding = {"kind": "hard_coded_secret", "line": 'password = "x"', "advice": "Fix hard-coded password"}
    assert (first.answer, first.group_id) == ({"findings": [finding], "risk": "critical"}, "OPS-4")
    assert first.occurred_at == BEGIN + timedelta(hours=4)
    assert found[3, "deploy/main.tf"].answer == {} == found[4, "scripts/rotate.sh"].answer
    assert found[4, "scripts/rotate.sh"].context["code"] == "rm -rf $DIR"


def test_a_whole_record_tells_all_that_a_clone_knows(repository: Repository) -> None:
    message = "Move it (#5)\n\nbecause of INC-9\n\nReviewed-by: Jane <jane@x.example>"
    commit = repository.commit(message, {"deploy/main.tf": None, "infra/base.tf": "name = 'c'\n"}, author="joe")
    found = read(repository.path, record="pull_request")
    assert list(found) == ["shop#1", "shop#2", "shop#3", "shop#4", "shop#5"]
    assert found["shop#1"]["author"] == "jane" and found["shop#1"]["branch"] == "acme/branch-1"
    assert found["shop#5"] == {
        "id": "shop#5",
        "repository": "shop",
        "number": 5,
        "title": "Move it",
        "body": "because of INC-9\n\nReviewed-by: Jane <jane@x.example>",
        "author": "joe",
        "merged_at": repository.moment.isoformat(),
        "commit": commit,
        "reviewers": ["Jane"],
        "issues": ["INC-9"],
        "incident": "INC-9",
        "files": [
            {
                "path": "infra/base.tf",
                "previous_path": "deploy/main.tf",
                "status": "renamed",
                "kind": "infrastructure",
                "additions": 0,
                "deletions": 0,
            }
        ],
    }
    binary = next(one for one in found["shop#4"]["files"] if one["path"] == "logo.png")
    assert binary["note"] == "the file is binary"


def test_the_second_collection_brings_nothing_and_later_merges_come(place: SourcePlace, repository: Repository) -> None:
    place.pull()
    assert place.pull().read == 0
    repository.merge(6, "Fix it once more", {"scripts/rotate.sh": "true\n"})
    report = place.pull()
    assert (report.read, report.new) == (1, 1)


def test_history_that_was_rewritten_is_read_again_and_nothing_comes_twice(
    place: SourcePlace, repository: Repository
) -> None:
    place.pull()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.commit("Fix the rotation properly (#7)", {"scripts/rotate.sh": "find -delete\n"})
    report = place.pull()
    assert (report.new, report.unchanged) == (1, 2)
    assert len({one.id for one in place.examples()}) == len(place.examples()) == 4


def test_a_run_that_stops_goes_on_at_its_last_position(repository: Repository) -> None:
    for number in range(10, 130):
        repository.commit(f"Fix number {number} (#{number})", {"run.sh": f"echo {number}\n"})
    given = reader(repository.path, record="pull_request").read({}, ALWAYS)
    before: list[str] = []
    for one in given:
        if isinstance(one, Reached):
            break
        if isinstance(one, Raw):
            before.append(one.origin)
    assert isinstance(one, Reached) and len(before) == 50
    after = reader(repository.path, record="pull_request").read(one.position, ALWAYS)
    rest = [raw.origin for raw in after if isinstance(raw, Raw)]
    assert len(rest) == 124 - 50 and not set(rest) & set(before)


def test_the_first_collection_goes_days_back_from_the_last_commit(place: SourcePlace, repository: Repository) -> None:
    repository.moment += timedelta(days=30)
    repository.commit("Fix it late (#8)", {"scripts/rotate.sh": "true\n"})
    place.settings = place.settings.model_copy(update={"days_back": 5})
    assert [one.metadata["number"] for one in place.pull() and place.examples()] == [8]


def test_a_folder_of_clones_is_read_as_a_whole(tmp_path: Path, repository: Repository) -> None:
    other = Repository(tmp_path / "clones" / "web")
    other.commit("Fix the page (#1)", {"README.md": "bye\n"})
    (tmp_path / "clones" / "notes").mkdir()
    repository.git("clone", "-q", "--mirror", str(other.path), str(tmp_path / "clones" / "mirror.git"))
    found = read(tmp_path / "clones", path="*", record="pull_request")
    assert {origin.partition("#")[0] for origin in found} == {"shop", "web", "mirror"}


def test_the_main_branch_is_read_as_it_was_fetched_last(tmp_path: Path, repository: Repository) -> None:
    clone = tmp_path / "clones" / "copy"
    repository.git("clone", "-q", str(repository.path), str(clone))
    repository.commit("Fix it upstream (#9)", {"README.md": "new\n"})
    assert "copy#9" not in read(clone, record="pull_request")
    repository.git("-C", str(clone), "fetch", "-q")
    repository.git("-C", str(clone), "switch", "-q", "-c", "elsewhere", "HEAD~2")
    assert "copy#9" in read(clone, record="pull_request")


def test_a_branch_can_be_named(repository: Repository) -> None:
    repository.git("switch", "-q", "-c", "release")
    repository.commit("Fix the release (#20)", {"README.md": "r\n"})
    repository.git("switch", "-q", "main")
    assert "shop#20" not in read(repository.path, record="pull_request")
    assert "shop#20" in read(repository.path, record="pull_request", branch="release")


def test_a_clone_that_lacks_a_commits_content_tells_so_and_goes_on(tmp_path: Path, repository: Repository) -> None:
    """A partial clone would fetch what it lacks; nothing is fetched here."""
    repository.git("config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "clones" / "partial"
    repository.git("clone", "-q", "--bare", "--filter=blob:none", f"file://{repository.path}", str(partial))
    given = [one for one in reader(partial).read({}, ALWAYS) if isinstance(one, Raw)]
    assert given and all("a shallow clone lacks it" in one.fault for one in given)


def test_a_long_diff_is_cut_and_says_so(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_clone, "_MOST", 3000)
    files = {f"config/{number}.yaml": f"key: {number}\n" * 20 for number in range(40)}
    repository.commit("Fix many (#30)", dict(files))
    found = read(repository.path, record="pull_request")["shop#30"]
    assert 1 < len(found["files"]) < 40
    assert found["notes"] == ["the diff is longer than 0 MB: files are missing"]


def hostile(repository: Repository, trap: Path) -> None:
    """A clone whose own configuration would run programs wherever git asks it."""
    repository.git("config", "core.fsmonitor", str(trap))
    repository.git("config", "core.pager", str(trap))
    repository.git("config", "diff.external", str(trap))
    repository.git("config", "diff.trap.command", str(trap))
    repository.git("config", "diff.trap.textconv", str(trap))
    repository.git("config", "filter.trap.clean", str(trap))
    repository.git("config", "filter.trap.smudge", str(trap))
    repository.git("config", "log.showSignature", "true")
    repository.git("config", "gpg.program", str(trap))
    repository.git("config", "diff.noprefix", "true")
    repository.git("config", "diff.mnemonicPrefix", "true")
    repository.git("config", "color.ui", "always")


def test_nothing_of_the_clones_own_configuration_runs(tmp_path: Path, repository: Repository) -> None:
    expected = read(repository.path, record="pull_request")
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
    (repository.path / ".git" / "info" / "attributes").write_text("* diff=trap filter=trap\n")
    hostile(repository, trap)
    assert read(repository.path, record="pull_request") == expected
    assert not sprung.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a clone to somebody else")
def test_a_clone_of_another_user_can_be_read(repository: Repository) -> None:
    for file in [repository.path, *repository.path.rglob("*")]:
        os.chown(file, 12345, 12345)
    assert read(repository.path, record="pull_request")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.joinpath("x").mkdir(), "git cannot read the clone"),
        (lambda path: path.joinpath("x").write_text("no folder"), r"there is no clone at \."),
        (lambda path: None, r"there is no clone at \."),
    ],
)
def test_what_is_no_clone_is_told(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    """Not even where the folder lies inside another repository."""
    outer = Repository(tmp_path / "outer")
    spoil(outer.path)
    with pytest.raises(ConfigError, match=told):
        read(outer.path / "x")


def test_a_branch_that_is_not_there_is_told(repository: Repository) -> None:
    with pytest.raises(ConfigError, match=r"the clone has no branch nowhere.*read\.branch"):
        read(repository.path, branch="nowhere")


@pytest.mark.parametrize("branch", ["--output={}", "main; touch {}", "$(touch {})"])
def test_a_branch_is_never_an_option_or_a_command(repository: Repository, tmp_path: Path, branch: str) -> None:
    with pytest.raises(ConfigError, match="the clone has no branch"):
        read(repository.path, branch=branch.format(tmp_path / "was-here"))
    assert not (tmp_path / "was-here").exists()


def test_a_clone_that_is_gone_for_a_while_loses_nothing(place: SourcePlace, repository: Repository) -> None:
    place.pull()
    before = place.watermark()
    repository.merge(40, "Fix what came meanwhile", {"scripts/rotate.sh": "true\n"})
    away = repository.path.rename(repository.path.with_name("away"))
    with pytest.raises(ConfigError, match="there is no clone"):
        place.pull()
    assert place.watermark() == before
    away.rename(repository.path)
    assert place.pull().new == 1


def test_git_that_takes_too_long_is_a_service_that_is_down(repository: Repository) -> None:
    with pytest.raises(ServiceDown, match=r"git takes longer than 0 s for (rev-parse|log).*goes on from here"):
        list(reader(repository.path, seconds=1e-9).read({}, ALWAYS))


def test_without_git_it_is_told(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="git is not installed"):
        read(repository.path)


def test_the_newest_moment_is_the_last_commits(repository: Repository) -> None:
    newest = reader(repository.path).newest(lambda record: datetime.now())
    assert newest == repository.moment
