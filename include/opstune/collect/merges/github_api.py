"""GitHub's REST interface, github.com or an own server: merged pull requests, their files, reviews and comments.

A refusal that is a limit (HTTP 403 with nothing left, or a secondary limit) is told apart from one that is none
(https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, Field

from opstune.collect.merges.diffs import FileChange, Status, cut, parse_diff
from opstune.collect.rules import Moment
from opstune.errors import ConfigError, OpstuneError, ServiceDown
from opstune.http import Http
from opstune.settings import Connection, Patience

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_PAGE = 100
#: GitHub lists no more files of a pull request than these.
_MOST_FILES = 3000
#: Seconds to wait at a secondary limit that names none, as GitHub asks.
_SECONDARY = 60.0
_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_STATUSES: dict[str, Status] = {"added": "added", "removed": "removed", "renamed": "renamed", "copied": "copied"}


class TooLarge(ConfigError):
    """The diff is more than GitHub gives in one piece: its files can be asked for one by one."""


class User(BaseModel):
    login: str
    type: str = "User"


class _Label(BaseModel):
    name: str


class _Branch(BaseModel):
    ref: str


class Listed(BaseModel):
    """A pull request as lists show it. ``user`` is none where the account is gone."""

    number: int
    title: str
    body: str | None = None
    user: User | None = None
    labels: list[_Label] = Field(default_factory=list)
    head: _Branch
    base: _Branch
    html_url: str = ""
    merge_commit_sha: str | None = None
    merged_at: Moment | None = None
    updated_at: Moment


class Reviewed(BaseModel):
    user: User | None = None
    state: str = ""


class Commented(BaseModel):
    path: str
    body: str
    user: User | None = None
    diff_hunk: str = ""
    line: int | None = None
    original_line: int | None = None
    side: str | None = "RIGHT"
    in_reply_to_id: int | None = None


class _File(BaseModel):
    filename: str
    status: str
    additions: int = 0
    deletions: int = 0
    patch: str | None = None
    previous_filename: str | None = None


class GitHubApi:
    """What opstune asks of a repository (``owner/name``)."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self._http = Http(
            "GitHub", connection, patience, headers=_HEADERS, throttled=self._throttled, fault=self._fault
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.__exit__(kind, error, trace)

    def closed(self, repository: str) -> Iterator[Any]:
        """Closed pull requests as GitHub gives them, the one changed last first, a page at a time when it is needed.

        In this order one that changes meanwhile comes twice rather than never.
        """
        asked = {"state": "closed", "sort": "updated", "direction": "desc"}
        return self._all(f"repos/{repository}/pulls", asked)

    def files(self, repository: str, number: int, most_lines: int) -> tuple[list[FileChange], str]:
        """The files of a pull request from its diff, or one by one where the diff is too large, and a note where
        some are missing."""
        path = f"repos/{repository}/pulls/{number}"
        try:
            diff = self._http.send("GET", path, headers={"Accept": "application/vnd.github.diff"})
            return parse_diff(diff.content.decode(errors="replace"), most_lines), ""
        except (TooLarge, ServiceDown):
            log.info("the diff of %s#%d cannot be had in one piece; its files are asked for", repository, number)
        files = [_change(self._http.parsed(_File, one), most_lines) for one in self._all(f"{path}/files")]
        note = f"GitHub lists no more than {_MOST_FILES} files" if len(files) >= _MOST_FILES else ""
        return files, note

    def reviews(self, repository: str, number: int) -> list[Reviewed]:
        return self._parsed(Reviewed, f"repos/{repository}/pulls/{number}/reviews")

    def comments(self, repository: str, number: int) -> list[Commented]:
        """The comments on lines, oldest first."""
        return self._parsed(Commented, f"repos/{repository}/pulls/{number}/comments")

    def _parsed(self, model: type[M], path: str) -> list[M]:
        return [self._http.parsed(model, one) for one in self._all(path)]

    def _all(self, path: str, asked: dict[str, Any] | None = None) -> Iterator[Any]:
        page, after = self._http.page(path, {**(asked or {}), "per_page": _PAGE})
        while True:
            yield from self._http.parsed(_Page, {"items": page}).items
            if not after:
                return
            page, after = self._http.page(self._own(after))

    def _own(self, url: str) -> str:
        """The path of a next page. It is asked of the connection's own address, whatever the link says: a token goes
        nowhere else."""
        parts = httpx.URL(url)
        base = httpx.URL(self._http.address).path.rstrip("/")
        return parts.raw_path.decode().removeprefix(base).lstrip("/")

    def _throttled(self, response: httpx.Response) -> float | None:
        if response.status_code not in (403, 429):
            return None
        after, reset = (_number(response, name) for name in ("retry-after", "x-ratelimit-reset"))
        if after is not None:
            return after
        if response.headers.get("x-ratelimit-remaining") == "0" and reset is not None:
            return max(reset - self._http.now().timestamp(), 0.0)
        limited = response.status_code == 429 or re.search(r"(?i)rate limit|abuse", response.text)
        return _SECONDARY if limited else None

    def _fault(self, response: httpx.Response) -> OpstuneError | None:
        where = f"{response.request.method} {response.request.url.copy_with(query=None, username=None, password=None)}"
        if response.status_code == 406:
            return TooLarge("GitHub finds the diff too large (HTTP 406)", where, "Leave out this pull request.")
        found = re.search(r"/repos/([^/]+/[^/]+)/", response.request.url.path)
        if response.status_code == 404 and found:
            what = f"GitHub has no repository {found[1]} that this token may read (HTTP 404)"
            todo = "Correct read.repositories or the connection's address, or let the token read its pull requests."
            return ConfigError(what, where, todo)
        return None


class _Page(BaseModel):
    items: list[Any]


def _change(file: _File, most_lines: int) -> FileChange:
    patch, note = cut((file.patch or "").rstrip("\n"), most_lines)
    status = _STATUSES.get(file.status, "modified")
    if file.patch is None and (file.additions or file.deletions):
        note = "GitHub leaves the patch out: it is too large"
    elif file.patch is None and status != "renamed":
        note = "there is no patch: the file is binary or empty"
    moved = file.previous_filename or ""
    return FileChange(file.filename, status, file.additions, file.deletions, patch, moved, note)


def _number(response: httpx.Response, header: str) -> float | None:
    try:
        return float(response.headers[header])
    except (KeyError, ValueError):
        return None
