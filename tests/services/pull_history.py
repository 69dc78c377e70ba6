"""Merged pull requests of an invented repository, and what a careful reader would make of each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

BEGIN = datetime(2026, 2, 1, tzinfo=UTC)
PATHS = ["deploy/main.tf", "config/app.yaml", "scripts/rotate.sh", "src/app/login.py"]


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user(login: str) -> Json:
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}


def patch(number: int) -> str:
    return f'@@ -1,2 +1,2 @@\n name = "api-{number}"\n-password = "x{number}"\n+password = var.p{number}'


def pull(number: int, changed: datetime, **changes: Any) -> Json:
    """Every third one is a fix, of which every second had a reviewer who found a secret. One file each."""
    path = PATHS[number % len(PATHS)]
    fix = number % 3 == 0
    secret = fix and number % 2 == 0
    hunk = f'@@ -0,0 +1,2 @@\n+name = "api-{number}"\n+password = "x{number}"'
    comments = [_comment(path, hunk, "This is a hard-coded password.", "jane")] if secret else []
    return {
        "number": number,
        "state": "closed",
        "title": f"Fix the login of api-{number}" if fix else f"Grow api-{number}",
        "body": f"for OPS-{number}" if number % 5 == 0 else None,
        "user": user("sam"),
        "labels": [{"name": "bug"}] if fix else [{"name": "feature"}],
        "head": {"ref": f"sam/{number}", "sha": "h"},
        "base": {"ref": "main", "sha": "b"},
        "html_url": f"https://github.com/acme/shop/pull/{number}",
        "merge_commit_sha": f"{number:040x}",
        "created_at": stamp(changed - timedelta(hours=5)),
        "merged_at": stamp(changed - timedelta(hours=1)) if number % 7 else None,
        "updated_at": stamp(changed),
        "files": [{"filename": path, "status": "modified", "additions": 1, "deletions": 1, "patch": patch(number)}],
        "diff": f"diff --git a/{path} b/{path}\nindex 1..2 100644\n--- a/{path}\n+++ b/{path}\n{patch(number)}\n",
        "reviews": [{"user": user("jane"), "state": "APPROVED"}, {"user": user("sam"), "state": "COMMENTED"}],
        "comments": [
            *comments,
            _comment(path, hunk, "This is a hard-coded password.", "linter[bot]"),
            {**_comment(path, hunk, "a hard-coded password, right", "joe"), "in_reply_to_id": 1},
        ],
        **changes,
    }


def history(count: int) -> list[Json]:
    return [pull(number, BEGIN + timedelta(minutes=19 * number)) for number in range(1, count + 1)]


def fixes(pulls: list[Json]) -> list[Json]:
    """Those that a source of fixes reads: merged, and a bug or the fix of an issue."""
    return [one for one in pulls if one["merged_at"] and (one["number"] % 3 == 0 or one["number"] % 5 == 0)]


def _comment(path: str, hunk: str, body: str, by: str) -> Json:
    return {
        "path": path,
        "body": body,
        "user": user(by),
        "diff_hunk": hunk,
        "line": None,
        "original_line": 2,
        "side": "RIGHT",
    }
