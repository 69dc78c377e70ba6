"""Source ``git``: the merges of local clones, as pull requests without what only their server knows.

A first parents' line only grows, so the last commit read is the position; where history was rewritten, all of it is
read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opstune.collect.files.files import root_of
from opstune.collect.merges.git_clone import Clone, Merge
from opstune.collect.merges.pull_requests import Pull, PullRequestOptions, is_chosen, records
from opstune.collect.source import Kind, Opening, Raw, Reached
from opstune.errors import ConfigError

log = logging.getLogger(__name__)

#: Merges between two positions.
_STEP = 50


class GitOptions(PullRequestOptions):
    """``path`` is a glob under the connection's folder: each folder that it names is a clone. ``branch`` is the one
    that is read, without a name the main branch as it was fetched last."""

    path: str = "."
    branch: str = ""


class GitReader:
    """Reads the clones that ``path`` names under ``root``."""

    def __init__(self, options: GitOptions, root: Path, source: str, seconds: float) -> None:
        self._options = options
        self._root = root
        self._source = source
        self._seconds = seconds
        self._heads: dict[str, str] = {}
        self._highest: datetime | None = None

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """When the clones' last commits were made."""
        clones = self.clones().values()
        return max(clone.when(clone.head(self._options.branch)) for clone in clones)

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached]:
        self._heads = dict(position.get("heads", {}))
        self._highest = datetime.fromisoformat(position["highest"]) if position else None
        for name, clone in self.clones().items():
            yield from self._clone(name, clone, floor)

    def reached(self) -> dict[str, Any]:
        return {"heads": dict(self._heads), "highest": self._highest.isoformat()} if self._highest else {}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    def clones(self) -> dict[str, Clone]:
        """The clones by name; a whole folder of them by their places in it.

        Raises:
            ConfigError: no folder is there.
        """
        if self._options.path == ".":
            found = {self._root.resolve().name: self._root}
        else:
            folders = sorted(self._root.glob(self._options.path))
            found = {str(folder.relative_to(self._root)): folder for folder in folders if _is_clone(folder)}
        if not found or not all(folder.is_dir() for folder in found.values()):
            todo = f"Clone the repository there, or correct config/sources/{self._source}.yaml or its connection."
            raise ConfigError(f"there is no clone at {self._options.path}", str(self._root), todo)
        return {name.removesuffix(".git"): Clone(folder, self._seconds) for name, folder in found.items()}

    def _clone(self, name: str, clone: Clone, floor: datetime) -> Iterator[Raw | Reached]:
        head, last = clone.head(self._options.branch), self._heads.get(name)
        if last and not clone.holds(last, head):
            log.info("%s: the history of %s was rewritten, so all of it is read again", self._source, name)
            last = None
        found = [merge for merge in clone.merges(head, last) if merge.merged_at >= floor]
        wanted = [merge for merge in found if is_chosen(_pull(name, merge), self._options)]
        log.info("%s: %d of %d merges are read", name, len(wanted), len(found))
        for number, merge in enumerate(wanted, 1):
            yield from self._records(name, clone, merge)
            if number % _STEP == 0:
                yield self._at(name, merge.commit, merge.merged_at)
        yield self._at(name, head, clone.when(head))

    def _records(self, name: str, clone: Clone, merge: Merge) -> Iterator[Raw]:
        pull = _pull(name, merge)
        try:
            files, note = clone.changes(merge, self._options.patch_lines)
            author = clone.author(merge)
        except ConfigError as error:
            yield Raw("", pull.id, {"id": pull.id, "title": pull.title}, f"{error.what}; a shallow clone lacks it")
            return
        notes = [note] if note else []
        whole = _pull(name, merge, files=files, notes=notes, author=author)
        yield from (Raw("", record["id"], record) for record in records(whole, self._options))

    def _at(self, name: str, commit: str, moment: datetime) -> Reached:
        self._heads[name] = commit
        self._highest = max(moment, self._highest or moment)
        return Reached(self.reached())


def _is_clone(folder: Path) -> bool:
    return (folder / ".git").exists() or (folder / "HEAD").is_file()


def _pull(name: str, merge: Merge, **known: Any) -> Pull:
    about = {
        "id": f"{name}#{merge.number}" if merge.number else f"{name}@{merge.commit[:12]}",
        "repository": name,
        "number": merge.number,
        "title": merge.title,
        "body": merge.body,
        "author": merge.author,
        "labels": (),
        "branch": merge.branch,
        "merged_at": merge.merged_at.astimezone(UTC),
        "commit": merge.commit,
        "reviewers": merge.reviewers,
    }
    return Pull(**{**about, **known})


def _open(options: GitOptions, opening: Opening) -> GitReader:
    root = root_of(opening.connection, opening.home)
    return GitReader(options, root, opening.source, opening.settings.patience.timeout_seconds)


KIND = Kind(GitOptions, _open)
