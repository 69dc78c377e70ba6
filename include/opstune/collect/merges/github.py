"""Source ``github``: merged pull requests with their diffs and what reviewers said, from GitHub's interface.

The list is walked from its newest change back to the last position; then the pull requests are fetched in the order
of their change, so that a run that stops goes on there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from opstune.collect.merges.github_api import Commented, GitHubApi, Listed, User
from opstune.collect.merges.pull_requests import Pull, PullRequestOptions, is_chosen, records
from opstune.collect.merges.review_findings import ReviewComment
from opstune.collect.source import Kind, Opening, Raw, Reached
from opstune.errors import ConfigError
from opstune.settings import Connection

log = logging.getLogger(__name__)

#: Pull requests between two positions: each costs three requests.
_STEP = 20


def _is_repository(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"{name!r} is no repository; write owner/name")
    return name


class GitHubOptions(PullRequestOptions):
    """``repositories`` are names such as acme/shop; ``branches`` those that pull requests went into, all without."""

    repositories: list[Annotated[str, AfterValidator(_is_repository)]] = Field(default_factory=list)
    branches: list[str] = Field(default_factory=list)


class GitHubReader:
    """Reads the merged pull requests of repositories."""

    def __init__(self, options: GitHubOptions, opening: Opening, connection: Connection) -> None:
        self._options = options
        self._opening = opening
        self._connection = connection
        self._overlap = timedelta(minutes=opening.settings.overlap_minutes)
        self._reached: dict[str, str] = {}

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """When the pull request was merged that is the newest among those changed last."""
        with self._api() as github:
            listed = [_listed(one) for name in self._options.repositories for one in _first(github.closed(name))]
        merged = [one.merged_at for one in listed if isinstance(one, Listed) and one.merged_at]
        return max(merged, default=None)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        self._reached = dict(position.get("repositories", {}))
        with self._api() as github:
            for repository in self._options.repositories:
                last = self._reached.get(repository)
                since = max(floor, datetime.fromisoformat(last) - self._overlap) if last else floor
                yield from self._repository(github, repository, since)

    def reached(self) -> dict[str, Any]:
        if not self._reached:
            return {}
        return {"repositories": dict(self._reached), "highest": max(self._reached.values(), key=datetime.fromisoformat)}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    def _repository(self, github: GitHubApi, repository: str, since: datetime) -> Iterator[Raw | Reached]:
        found: dict[int, Listed] = {}
        for one in github.closed(repository):
            listed = _listed(one)
            if not isinstance(listed, Listed):
                number = one.get("number") if isinstance(one, dict) else None
                fault = f"the pull request is not as GitHub describes it: {listed}"
                yield Raw("", f"{repository}#{number or '?'}", one, fault)
                continue
            if listed.updated_at < since:
                break
            found.setdefault(listed.number, listed)
        if not found:
            return
        newest = max(one.updated_at for one in found.values())
        wanted = [one for one in reversed(found.values()) if self._concerns(repository, one)]
        log.info("%s: %d of %d closed pull requests are read", repository, len(wanted), len(found))
        for number, listed in enumerate(wanted, 1):
            for record in records(self._complete(github, repository, listed), self._options):
                yield Raw("", record["id"], record)
            if number % _STEP == 0:
                yield self._at(repository, listed.updated_at)
        yield self._at(repository, newest)

    def _at(self, repository: str, changed: datetime) -> Reached:
        self._reached[repository] = changed.isoformat()
        return Reached(self.reached())

    def _concerns(self, repository: str, listed: Listed) -> bool:
        into = not self._options.branches or listed.base.ref in self._options.branches
        return listed.merged_at is not None and into and is_chosen(_pull(repository, listed), self._options)

    def _complete(self, github: GitHubApi, repository: str, listed: Listed) -> Pull:
        """The pull request with its files and what was said about them."""
        files, note = github.files(repository, listed.number, self._options.patch_lines)
        reviews = github.reviews(repository, listed.number)
        author = listed.user.login if listed.user else ""
        reviewers = [review.user.login for review in reviews if review.user and _is_person(review.user)]
        said = [_comment(comment, author) for comment in github.comments(repository, listed.number)]
        others = tuple(dict.fromkeys(name for name in reviewers if name != author))
        return _pull(repository, listed, files=files, reviewers=others, comments=said, notes=[note] if note else [])

    def _api(self) -> GitHubApi:
        return GitHubApi(self._connection, self._opening.settings.patience)


def _first(listed: Iterator[Any]) -> list[Any]:
    """A page of them."""
    return [one for one, _ in zip(listed, range(100), strict=False)]


def _listed(value: Any) -> Listed | str:
    """A listed pull request, or what is wrong with it."""
    try:
        return Listed.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _pull(repository: str, listed: Listed, **known: Any) -> Pull:
    return Pull(
        id=f"{repository}#{listed.number}",
        repository=repository,
        number=listed.number,
        title=listed.title,
        body=listed.body or "",
        author=listed.user.login if listed.user else "",
        labels=[label.name for label in listed.labels],
        branch=listed.head.ref,
        merged_at=listed.merged_at or listed.updated_at,
        url=listed.html_url,
        commit=listed.merge_commit_sha or "",
        **known,
    )


def _comment(comment: Commented, author: str) -> ReviewComment:
    """GitHub tells a comment's line as it is now, or only as it was where a later change took it away."""
    by = comment.user.login if comment.user else ""
    counts = comment.in_reply_to_id is None and by != author and (comment.user is None or _is_person(comment.user))
    line = comment.line or comment.original_line
    return ReviewComment(comment.path, line, comment.body, by, comment.diff_hunk, comment.side == "LEFT", counts)


def _is_person(user: User) -> bool:
    return user.type != "Bot" and not user.login.endswith("[bot]")


def _open(options: GitHubOptions, opening: Opening) -> GitHubReader:
    if opening.connection is None:
        raise ConfigError(f"{opening.source} has no connection", opening.source, "Name one in its source file.")
    if not options.repositories:
        todo = "Write owner/name of each under read.repositories."
        raise ConfigError("no repository is named", f"config/sources/{opening.source}.yaml", todo)
    return GitHubReader(options, opening, opening.connection)


KIND = Kind(GitHubOptions, _open)
