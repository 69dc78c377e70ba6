"""A local clone, asked through git: which merges its first parents are, and what each of them changed.

Nothing of the clone's own configuration runs and nothing is fetched: a clone is somebody else's data.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from opstune.collect.merges.diffs import FileChange, parse_diff
from opstune.errors import ConfigError, OpstuneError, ServiceDown

#: Characters of one diff that are read; what is beyond is noted.
_MOST = 4_000_000
_FIELDS = "%H%x1f%P%x1f%ct%x1f%an%x1f%B"
#: What a clone's own configuration would otherwise decide, above all which programs git runs.
_SETTINGS = (
    "safe.directory=*",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "log.showSignature=false",
    "i18n.logOutputEncoding=UTF-8",
)
_MERGE = (
    re.compile(r"^Merge pull request #(?P<number>\d+) from (?P<branch>\S+)"),
    re.compile(r"^Merged in (?P<branch>\S+) \(pull request #(?P<number>\d+)\)"),
    re.compile(r"^Merged PR (?P<number>\d+): (?P<title>.+)"),
    re.compile(r"^Merge (?:remote-tracking )?branch '(?P<branch>[^']+)'"),
)
#: A branch brought up to date with its own origin: the work of others, not a request of its own.
_PULLED = re.compile(r"^Merge (?:remote-tracking )?branch '[^']+' of ")
_SQUASHED = re.compile(r"^(?P<title>.+?)\s*\((?:#|!|PR |pull request #)(?P<number>\d+)\)\s*$")
_GITLAB = re.compile(r"(?m)^See merge request \S*!(?P<number>\d+)\s*$")
_TRAILER = re.compile(r"(?im)^(?:reviewed|approved|acked)-by:\s*([^<\n]+?)\s*(?:<[^>]*>)?\s*$")


@dataclass(frozen=True)
class Merge:
    """A merge, or a squashed one, on the first parents' line. ``number`` is none where the message names none."""

    commit: str
    parent: str
    merged_at: datetime
    author: str
    title: str
    body: str
    branch: str = ""
    number: int | None = None
    reviewers: tuple[str, ...] = ()


class Clone:
    """A clone at ``path``; ``seconds`` is how long one command may take."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path.resolve()
        self._seconds = seconds

    def head(self, branch: str) -> str:
        """The commit that a branch is at, as it was fetched last; of the main branch without a name.

        Raises:
            ConfigError: this is no repository, or it has no such branch.
        """
        names = [f"refs/remotes/origin/{branch or 'HEAD'}", f"refs/heads/{branch}" if branch else "HEAD"]
        for name in names:
            found = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
            if found:
                return found.strip()
        self._run("rev-parse", "--git-dir")
        what = f"the clone has no branch {branch}" if branch else "the clone has no commit"
        raise ConfigError(what, str(self.path), "Fetch it, or correct read.branch in the source file.")

    def holds(self, commit: str, head: str) -> bool:
        """Whether a commit is still part of the history that ends in ``head``."""
        with self._started(("merge-base", "--is-ancestor", commit, head)) as (process, _):
            return process.wait() == 0

    def when(self, commit: str) -> datetime:
        told = self._run("log", "-1", "--format=%ct", "--end-of-options", commit)
        return datetime.fromtimestamp(int(told), UTC)

    def merges(self, head: str, after: str | None) -> Iterator[Merge]:
        """The merges up to ``head``, oldest first; those after a commit only, where one is named."""
        chosen = [head, f"^{after}"] if after else [head]
        asked = ("log", "-z", "--first-parent", "--reverse", f"--format={_FIELDS}", "--end-of-options", *chosen, "--")
        for entry in self._entries(*asked):
            commit, parents, seconds, author, message = entry.split("\x1f", 4)
            merge = read_merge(commit, parents.split(), int(seconds), author, message)
            if merge:
                yield merge

    def author(self, merge: Merge) -> str:
        """Who wrote what was merged; a merge commit's own author only pressed the button."""
        told = self._run("log", "-1", "--format=%an", "--end-of-options", f"{merge.commit}^2", check=False)
        return told.strip() or merge.author

    def changes(self, merge: Merge, most_lines: int) -> tuple[list[FileChange], str]:
        """What a merge changed against its first parent, and a note where the diff is too long to read whole.

        Raises:
            ConfigError: the clone does not hold it, as a shallow one may not.
        """
        asked = ("diff-tree", "-r", "-p", "-M", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short")
        command = [*asked, "--src-prefix=a/", "--dst-prefix=b/", "--end-of-options", merge.parent, merge.commit]
        told = self._run(*command, most=_MOST)
        if len(told) < _MOST:
            return parse_diff(told, most_lines), ""
        whole = told[: told.rfind("\ndiff --git ") + 1] or told
        return parse_diff(whole, most_lines), f"the diff is longer than {_MOST // 1_000_000} MB: files are missing"

    def _run(self, *arguments: str, check: bool = True, most: int = -1) -> str:
        """What a command says, at most so many characters of it; nothing where it fails and ``check`` is off."""
        with self._started(arguments) as (process, errors):
            output = process.stdout.read(most) if process.stdout else b""
            cut = len(output) == most
            if cut:
                process.kill()
            failed = process.wait() != 0 and not cut
            if failed and check:
                raise self._fault(errors)
        return "" if failed else output.decode(errors="replace")

    def _entries(self, *arguments: str) -> Iterator[str]:
        """What a command says between null characters, without holding all of it."""
        with self._started(arguments) as (process, errors):
            rest = b""
            while chunk := process.stdout.read(1 << 16) if process.stdout else b"":
                *whole, rest = (rest + chunk).split(b"\0")
                yield from (entry.decode(errors="replace") for entry in whole)
            if process.wait():
                raise self._fault(errors)
            if rest:
                yield rest.decode(errors="replace")

    @contextmanager
    def _started(self, arguments: tuple[str, ...]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = ["git", "--no-pager", "--no-replace-objects", *settings, "-C", str(self.path), *arguments]
        late = threading.Event()
        with TemporaryFile() as errors:
            try:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=self._environment())
            except FileNotFoundError as error:
                raise ConfigError("git is not installed", str(self.path), "Install git on this machine.") from error

            def give_up() -> None:
                late.set()
                process.kill()

            watch = threading.Timer(self._seconds, give_up)
            watch.start()
            try:
                with process:
                    yield process, errors
            except OpstuneError:
                if not late.is_set():
                    raise
            finally:
                watch.cancel()
                process.kill()
        if late.is_set():
            what = f"git takes longer than {self._seconds:.0f} s for {arguments[0]}"
            raise ServiceDown(what, str(self.path), "The next run goes on from here.")

    def _fault(self, errors: IO[bytes]) -> ConfigError:
        errors.seek(0)
        told = errors.read().decode(errors="replace").strip().splitlines()
        what = f"git cannot read the clone: {told[-1] if told else 'it says nothing'}"
        return ConfigError(what, str(self.path), "Give the folder of a clone, complete and readable.")

    def _environment(self) -> dict[str, str]:
        """Only what git needs: no configuration of the machine or the user, no prompt, no network, no other
        repository than the one that stands in the folder itself."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "HOME": os.devnull,
            "LC_ALL": "C",
            "GIT_CEILING_DIRECTORIES": str(self.path.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
        }


def read_merge(commit: str, parents: list[str], seconds: int, author: str, message: str) -> Merge | None:
    """A commit as a merge, by its parents and its message; none for one that was pushed straight."""
    subject, _, body = message.strip().partition("\n")
    body = body.strip()
    told: dict[str, str] = {}
    if _PULLED.match(subject):
        return None
    if len(parents) > 1:
        told = next((found.groupdict() for form in _MERGE if (found := form.match(subject))), {})
        title = told.get("title") or next(iter(body.splitlines()), "") or subject
        body = body.removeprefix(title).strip() if "title" not in told else body
    elif parents and (squashed := _SQUASHED.match(subject)):
        told, title = squashed.groupdict(), squashed["title"]
    elif parents and _GITLAB.search(body):
        title = subject
    else:
        return None
    request = _GITLAB.search(message)
    number = told.get("number") or (request["number"] if request else None)
    return Merge(
        commit=commit,
        parent=parents[0],
        merged_at=datetime.fromtimestamp(seconds, UTC),
        author=author,
        title=title.strip(),
        body=body,
        branch=told.get("branch", ""),
        number=int(number) if number else None,
        reviewers=tuple(dict.fromkeys(name.strip() for name in _TRAILER.findall(message))),
    )
