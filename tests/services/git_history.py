"""Real repositories, made with the real git: merges, squashed ones, straight pushes, renames, binary files."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

BEGIN = datetime(2026, 2, 1, tzinfo=UTC)
_IDENTITY = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


class Repository:
    """A repository at ``path``, branch main. Each commit is an hour after the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.moment = BEGIN
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.commit("Begin", {"README.md": "hello\n"})

    def git(self, *arguments: str, author: str = "sam") -> str:
        stamp = self.moment.isoformat()
        people = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", author), ("EMAIL", f"{author}@x.example"), ("DATE", stamp))
        }
        shell = {**os.environ, **_IDENTITY, **people}
        done = subprocess.run(["git", *arguments], cwd=self.path, env=shell, capture_output=True, check=True)
        return done.stdout.decode()

    def commit(self, message: str, files: dict[str, str | bytes | None], author: str = "sam") -> str:
        """Write files, or remove those that are None, and commit them."""
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.moment += timedelta(hours=1)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, author=author)
        return self.git("rev-parse", "HEAD").strip()

    def merge(self, number: int, title: str, files: dict[str, str | bytes | None], body: str = "") -> str:
        """A pull request of two commits, merged as GitHub does."""
        self.git("switch", "-q", "-c", f"branch-{number}")
        self.commit(f"work on {number}", files, author="jane")
        self.git("switch", "-q", "main")
        self.moment += timedelta(hours=1)
        message = f"Merge pull request #{number} from acme/branch-{number}\n\n{title}\n\n{body}"
        self.git("merge", "-q", "--no-ff", "-m", message, f"branch-{number}")
        return self.git("rev-parse", "HEAD").strip()
