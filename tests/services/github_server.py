"""A stand-in for GitHub's REST interface: lists with Link headers, diffs, reviews, comments, and its limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from fault_server import Answer, Request

TOKEN = "ghp_t0ken"
REPOSITORY = "acme/shop"
#: A diff of more files answers 406.
MOST_FILES = 300

Json = dict[str, Any]


class GitHub:
    """``pulls`` are as GitHub lists them, by number, each with ``files`` (as its files are listed), ``diff``,
    ``reviews`` and ``comments`` beside. ``base`` is the path below which an own server has its interface; ``left`` is
    what may still be asked in this window; ``before`` is called with each path before it is answered."""

    def __init__(self, pulls: list[Json], base: str = "") -> None:
        self.pulls = {pull["number"]: pull for pull in pulls}
        self.base = base
        self.address = ""
        self.authorization = f"Bearer {TOKEN}"
        self.left = 5000
        self.reset = time.time() + 3600
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _path: None

    def __call__(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.address = f"http://{headers['host']}{self.base}"
        if headers.get("authorization") != self.authorization:
            return Answer({"message": "Bad credentials"}, 401)
        if self.left < 1:
            told = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(self.reset))}
            return Answer({"message": "API rate limit exceeded for user ID 1."}, 403, told)
        self.left -= 1
        path = request.path.removeprefix(self.base)
        self.asked.append(path)
        self.before(path)
        answer = self._route(path.strip("/").split("/"), request.query, headers.get("accept", ""))
        told = {"X-RateLimit-Remaining": str(self.left), "X-RateLimit-Reset": str(int(self.reset))}
        return Answer(answer.body, answer.status, {**told, **answer.headers})

    def _route(self, parts: list[str], query: dict[str, str], accept: str) -> Answer:
        if parts[:1] == ["repositories"]:
            parts = ["repos", *REPOSITORY.split("/"), *parts[2:]]
        if parts[:3] != ["repos", *REPOSITORY.split("/")] or parts[3:4] != ["pulls"]:
            return Answer({"message": "Not Found"}, 404)
        if len(parts) == 4:
            return self._page(parts, self._listed(query), query)
        pull = self.pulls.get(int(parts[4]))
        if pull is None:
            return Answer({"message": "Not Found"}, 404)
        if len(parts) == 6:
            return self._page(parts, pull[parts[5]], query)
        if accept != "application/vnd.github.diff":
            return Answer(_shown(pull))
        if len(pull["files"]) > MOST_FILES:
            return Answer({"message": "Sorry, the diff exceeded the maximum number of files (300)."}, 406)
        return Answer(pull["diff"].encode(), 200, {"Content-Type": "application/vnd.github.diff; charset=utf-8"})

    def _listed(self, query: dict[str, str]) -> list[Json]:
        found = [_shown(pull) for pull in self.pulls.values() if pull["state"] == query.get("state", "open")]
        key = {"updated": "updated_at", "created": "created_at"}[query.get("sort", "created")]
        return sorted(found, key=lambda pull: (pull[key], pull["number"]), reverse=query.get("direction") != "asc")

    def _page(self, parts: list[str], items: list[Json], query: dict[str, str]) -> Answer:
        """GitHub links to the next page by the repository's number, not its name."""
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        headers = {}
        if page * size < len(items):
            path = "/".join(["repositories", "1300192", *parts[3:]])
            link = f"{self.address}/{path}?{urlencode({**query, 'page': page + 1})}"
            headers["Link"] = f'<{link}>; rel="next"'
        return Answer(items[(page - 1) * size : page * size], 200, headers)


def _shown(pull: Json) -> Json:
    return {name: value for name, value in pull.items() if name not in ("files", "diff", "reviews", "comments")}
