"""Merged pull requests out of a stand-in for GitHub's REST interface."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer
from github_server import REPOSITORY, TOKEN, GitHub
from pull_history import BEGIN, PATHS, fixes, history, pull, stamp
from source_place import SourcePlace

from opstune.errors import AccessDenied, ConfigError, Throttled

COUNT = 260
SOURCE = "pull_request_reviews"


@pytest.fixture
def github() -> GitHub:
    return GitHub(history(COUNT))


@pytest.fixture
def server(github: GitHub) -> Iterator[FaultServer]:
    with FaultServer(github) as server:
        yield server


@pytest.fixture
def place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> Callable[[str], SourcePlace]:
    def place_of(source: str) -> SourcePlace:
        place = SourcePlace(tmp_path, monkeypatch, source)
        place.connect("opstune_github", server.url, TOKEN)
        place.options(repositories=[REPOSITORY])
        return place

    return place_of


@pytest.fixture
def place(place_of: Callable[[str], SourcePlace]) -> SourcePlace:
    return place_of(SOURCE)


def reviewable(github: GitHub) -> list[dict[str, Any]]:
    """The fixes whose file is no plain code, which the source leaves out."""
    return [one for one in fixes(list(github.pulls.values())) if PATHS[one["number"] % 4] != PATHS[3]]


def details(github: GitHub) -> list[str]:
    return [path for path in github.asked if path.rpartition("/")[2].isdigit()]


def test_every_merged_fix_becomes_a_review_with_what_people_said(place: SourcePlace, github: GitHub) -> None:
    expected = {one["number"]: one for one in reviewable(github)}
    report = place.pull()
    assert (report.new, report.quarantined) == (len(expected), 0)
    found = {one.metadata["number"]: one for one in place.examples()}
    assert found.keys() == expected.keys()
    for number, example in found.items():
        kinds = ["infrastructure", "configuration", "script"]
        assert (example.context["path"], example.context["kind"]) == (PATHS[number % 4], kinds[number % 4])
        assert example.group_id == (f"OPS-{number}" if number % 5 == 0 else f"{REPOSITORY}#{number}")
        assert example.occurred_at == datetime.fromisoformat(expected[number]["merged_at"])
        assert example.metadata["reviewers"] == ["jane"]
        if number % 6 == 0:
            finding = {"kind": "hard_coded_secret", "line": f'password = "x{number}"'}
            advice = {"advice": "This is a hard-coded password."}
            assert example.answer == {"findings": [{**finding, **advice}], "risk": "critical"}
            assert example.context["code"].startswith("@@ -0,0 +1,2 @@")
        else:
            assert example.answer == {}
            assert example.context["code"] == f'name = "api-{number}"\npassword = "x{number}"'
    assert len(details(github)) == len(fixes(list(github.pulls.values())))


def test_the_second_collection_brings_nothing_new_and_asks_for_little(place: SourcePlace, github: GitHub) -> None:
    place.pull()
    github.asked.clear()
    report = place.pull()
    assert (report.new, report.updated) == (0, 0)
    assert len(details(github)) <= 1 and len(github.asked) <= 5


def test_a_review_that_comes_late_changes_its_example(place: SourcePlace, github: GitHub) -> None:
    place.pull()
    late = github.pulls[9]
    late["comments"] = github.pulls[6]["comments"][:1]
    late["comments"][0]["path"] = late["files"][0]["filename"]
    late["updated_at"] = stamp(BEGIN + timedelta(days=30))
    github.pulls[300] = pull(300, BEGIN + timedelta(days=31))
    report = place.pull()
    assert (report.new, report.updated) == (1, 1)


def test_one_that_changes_while_the_list_is_walked_is_not_lost_and_takes_no_other_along(
    place: SourcePlace, github: GitHub
) -> None:
    pages = 0

    def change_an_old_one(path: str) -> None:
        nonlocal pages
        pages += path.endswith("/pulls")
        if pages == 3:
            github.pulls[6]["updated_at"] = stamp(BEGIN + timedelta(days=40))
            github.pulls[6]["title"] = "Fix it for good"
            pages += 1

    github.before = change_an_old_one
    first = place.pull()
    second = place.pull()
    assert first.new + second.new == len(reviewable(github))
    changed = next(one for one in place.examples() if one.metadata["number"] == 6)
    assert changed.metadata["title"] == "Fix it for good"


def test_a_process_that_is_killed_goes_on_where_it_was(place: SourcePlace, github: GitHub, server: FaultServer) -> None:
    shell = {
        **os.environ,
        "OPSTUNE_HOME": str(place.home),
        "OPSTUNE__CONNECTIONS__OPSTUNE_GITHUB__URL": server.url.replace("//", f"//:{TOKEN}@"),
        "OPSTUNE__COLLECT__DAYS_BACK": "4000",
        "OPSTUNE__COLLECT__OVERLAP_MINUTES": "0",
    }
    command = [sys.executable, "-m", "opstune.cli", "collect", place.source]
    with subprocess.Popen(command, env=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:

        def kill_at_the_fiftieth(_path: str) -> None:
            if len(details(github)) == 50:
                child.kill()

        github.before = kill_at_the_fiftieth
        assert child.wait(timeout=120) == -signal.SIGKILL
    before, asked, mark = len(place.examples()), len(details(github)), place.watermark()
    assert 0 < before < len(reviewable(github)) and mark and mark.collected_at is None

    report = place.pull()
    assert (report.new, len(place.examples())) == (len(reviewable(github)) - before, len(reviewable(github)))
    assert len(details(github)) - asked == len(fixes(list(github.pulls.values()))) - 39


def test_a_diff_that_is_too_large_is_read_file_by_file(place: SourcePlace, github: GitHub) -> None:
    large = github.pulls[9]
    large["files"] = [
        {
            "filename": f"config/part{n}.yaml",
            "status": "modified",
            "additions": 1,
            "deletions": 1,
            "patch": "@@ -1 +1 @@\n-a\n+b",
        }
        for n in range(310)
    ]
    large["files"][7] = {"filename": "logo.png", "status": "modified", "additions": 0, "deletions": 0}
    large["files"][8] = {"filename": "config/big.yaml", "status": "modified", "additions": 90_000, "deletions": 1}
    place.pull()
    assert len([one for one in place.examples() if one.metadata["number"] == 9]) == 308
    assert github.asked.count(f"/repos/{REPOSITORY}/pulls/9/files") == 1
    assert sum(path.endswith("/pulls/9/files") for path in github.asked) == 4


def test_an_own_server_has_its_interface_below_a_path(place: SourcePlace, github: GitHub, server: FaultServer) -> None:
    github.base = "/api/v3"
    place.connect("opstune_github", f"{server.url}/api/v3", TOKEN)
    assert place.pull().new == len(reviewable(github))


def test_a_link_to_another_host_gets_no_token(place: SourcePlace, github: GitHub, server: FaultServer) -> None:
    route = github._route

    def elsewhere(parts: list[str], query: dict[str, str], accept: str) -> Any:
        answer = route(parts, query, accept)
        if "Link" in answer.headers:
            away = answer.headers["Link"].replace(server.url, "http://elsewhere.invalid")
            answer = type(answer)(answer.body, answer.status, {**answer.headers, "Link": away})
        return answer

    github._route = elsewhere  # type: ignore[method-assign]
    assert place.pull().new == len(reviewable(github))


def test_a_limit_is_told_apart_from_a_refusal_and_the_next_run_goes_on(place: SourcePlace, github: GitHub) -> None:
    github.left = 150
    with pytest.raises(
        Throttled, match=r"GitHub asks to slow down \(HTTP 403, 3[56]\d\d s\).*goes on from here"
    ) as caught:
        place.pull()
    assert caught.value.seconds and 3500 < caught.value.seconds <= 3600
    before = len(place.examples())
    github.left = 5000
    assert 0 < before < len(reviewable(github)) == before + place.pull().new


def test_branches_narrow_the_pull_requests_down(place: SourcePlace, github: GitHub) -> None:
    for number in (6, 9, 12):
        github.pulls[number]["base"]["ref"] = "release"
    place.options(branches=["release"])
    assert place.pull().new == 3


def test_without_a_choice_all_merged_ones_are_read(place: SourcePlace, github: GitHub) -> None:
    place.options(choose={})
    merged = [one for one in github.pulls.values() if one["merged_at"] and PATHS[one["number"] % 4] != PATHS[3]]
    assert place.pull().new == len(merged)


def test_the_first_collection_goes_days_back_from_the_newest_merge(place: SourcePlace, github: GitHub) -> None:
    place.settings = place.settings.model_copy(update={"days_back": 1})
    place.pull()
    newest = max(datetime.fromisoformat(one["merged_at"]) for one in github.pulls.values() if one["merged_at"])
    found = [one.occurred_at for one in place.examples()]
    assert found and min(found) >= newest - timedelta(days=1)
    assert len(details(github)) < 60


def test_one_that_is_not_as_described_stops_no_other(place: SourcePlace, github: GitHub) -> None:
    github.pulls[6]["title"] = None
    github.pulls[9]["user"] = None
    report = place.pull()
    assert (report.new, report.quarantined) == (len(reviewable(github)) - 1, 1)
    assert "title" in place.refused()[0]


def test_a_repository_that_is_not_there_is_told_with_what_to_do(place: SourcePlace) -> None:
    place.options(repositories=["acme/nowhere"])
    with pytest.raises(ConfigError, match=r"no repository acme/nowhere that this token may read.*read\.repositories"):
        place.pull()


@pytest.mark.parametrize(
    ("repositories", "told"),
    [([], "no repository is named.*owner/name"), (["shop"], "'shop' is no repository; write owner/name")],
)
def test_a_source_file_without_repositories_is_told(place: SourcePlace, repositories: list[str], told: str) -> None:
    place.options(repositories=repositories)
    with pytest.raises(ConfigError, match=told):
        place.pull()


def test_a_wrong_token_is_told_without_the_token(place: SourcePlace, github: GitHub, server: FaultServer) -> None:
    place.connect("opstune_github", server.url, "ghp_wr0ng")
    with pytest.raises(AccessDenied, match=r"GitHub refuses access.*Bad credentials") as caught:
        place.pull()
    assert "wr0ng" not in str(caught.value)


def test_pull_requests_that_automate_become_workflows(place_of: Callable[[str], SourcePlace], github: GitHub) -> None:
    steps = "steps:\n  - {function: check, when: lag grows}\n  - restart_consumer"
    text = f"name: restart it\ntrigger: ConsumerBehind\n{steps}\nrollback: page"
    lines = "\n".join(f"+{line}" for line in text.splitlines())
    diff = (
        "diff --git a/automations/c.yaml b/automations/c.yaml\nnew file mode 100644\n--- /dev/null\n"
        f"+++ b/automations/c.yaml\n@@ -0,0 +1,6 @@\n{lines}\n"
    )
    body = "## Problem\nThe consumer hangs.\n\n## Manual steps\n1. look at the lag\n2. restart it\n"
    when = BEGIN + timedelta(days=20)
    file = {"filename": "automations/c.yaml", "status": "added", "additions": 6, "deletions": 0}
    about = {"title": "Automate the restart", "body": body, "files": [file]}
    github.pulls[401] = pull(401, when, **about, diff=diff)
    github.pulls[402] = pull(402, when, **about, diff=diff.replace("automations", "src"))
    github.pulls[403] = pull(403, when, **{**about, "body": "no toil told"}, diff=diff)
    place = place_of("pull_request_workflows")
    report = place.pull()
    assert (report.new, report.quarantined) == (2, 0)
    answers = {one.metadata["number"]: one.answer for one in place.examples()}
    assert answers[402] == {}
    assert answers[401] == {
        "name": "restart it",
        "trigger": "ConsumerBehind",
        "steps": [{"function": "check", "when": "lag grows"}, {"function": "restart_consumer"}],
        "rollback": {"function": "page"},
    }
