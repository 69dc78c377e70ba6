"""Merged pull requests as raw records, wherever they come from: one record each, or one for each file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatch
from typing import Any, Literal

import yaml
from pydantic import Field

from opstune.collect.merges import diffs
from opstune.collect.merges.diffs import FileChange
from opstune.collect.merges.file_kinds import is_generated, kind_of
from opstune.collect.merges.issue_keys import issue_keys
from opstune.collect.merges.review_findings import FindingRule, ReviewComment, fixed, reviewed
from opstune.collect.prose.issue_text import read_text
from opstune.settings import Section


class Choice(Section):
    """Which pull requests are read: one of these labels (any case), one of these words in the title, or, with
    ``linked``, an issue that it names. Without any of them all are."""

    labels: list[str] = Field(default_factory=list)
    words: list[str] = Field(default_factory=list)
    linked: bool = False

    def reasons(self, title: str, labels: Sequence[str], issues: Sequence[str]) -> list[str]:
        """Why a pull request is chosen; empty if it is not, or if all are."""
        own = {label.lower() for label in labels}
        told = [f"label {label}" for label in self.labels if label.lower() in own]
        told += [f"word {word}" for word in self.words if re.search(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", title)]
        return told + ([f"issue {issues[0]}"] if self.linked and issues else [])

    @property
    def all(self) -> bool:
        return not (self.labels or self.words or self.linked)


class PullRequestOptions(Section):
    """``record`` is what becomes a record: each ``file`` that people write, or the ``pull_request`` as a whole.
    ``issue_keys`` are the prefixes that name an issue (OPS); without them whatever looks like a key does.
    ``automations`` are paths (globs) of files that describe an automation. ``patch_lines`` is how much of a file's
    patch, ``code_lines`` how much of its code is kept."""

    record: Literal["file", "pull_request"] = "file"
    choose: Choice = Choice()
    issue_keys: list[str] = Field(default_factory=list)
    findings: list[FindingRule] = Field(default_factory=list)
    automations: list[str] = Field(default_factory=lambda: ["automations/*", "runbooks/*", "playbooks/*"])
    patch_lines: int = Field(2000, ge=1)
    code_lines: int = Field(150, ge=1)


@dataclass(frozen=True)
class Pull:
    """A merged pull request, or a merge in a clone. ``id`` is unique among all; ``number`` may be unknown in a
    clone; ``notes`` say what is missing."""

    id: str
    repository: str
    number: int | None
    title: str
    body: str
    author: str
    labels: Sequence[str]
    branch: str
    merged_at: datetime
    url: str = ""
    commit: str = ""
    reviewers: Sequence[str] = ()
    files: Sequence[FileChange] = ()
    comments: Sequence[ReviewComment] = ()
    notes: Sequence[str] = ()

    def issues(self, options: PullRequestOptions) -> list[str]:
        return issue_keys([self.title, self.branch, self.body], options.issue_keys, self.repository)


def is_chosen(pull: Pull, options: PullRequestOptions) -> bool:
    """Whether a pull request is read at all; its files need not be known yet."""
    return options.choose.all or bool(options.choose.reasons(pull.title, pull.labels, pull.issues(options)))


def records(pull: Pull, options: PullRequestOptions) -> list[dict[str, Any]]:
    """The raw records of a pull request, without what is not known."""
    issues = pull.issues(options)
    base = {
        "id": pull.id,
        "repository": pull.repository,
        "number": pull.number,
        "title": pull.title,
        "author": pull.author,
        "labels": list(pull.labels),
        "branch": pull.branch,
        "merged_at": pull.merged_at.isoformat(),
        "url": pull.url,
        "commit": pull.commit,
        "reviewers": list(pull.reviewers),
        "issues": issues,
        "incident": issues[0] if issues else pull.id,
        "chosen_by": options.choose.reasons(pull.title, pull.labels, issues),
        "notes": list(pull.notes),
    }
    if options.record == "pull_request":
        return [_known({**base, **_whole(pull, options)})]
    written = [change for change in pull.files if not is_generated(change.path) and change.patch]
    alone = sum(len(diffs.removed(change.patch)) for change in written) == 1 and not any(
        change.note for change in pull.files
    )
    found = (_file(pull, change, alone, options) for change in written)
    return [_known({**base, **one, "id": f"{pull.id}/{one['path']}"}) for one in found if one]


def _file(pull: Pull, change: FileChange, alone: bool, options: PullRequestOptions) -> dict[str, Any]:
    """One file for review: as reviewers saw it where they found something, else as it was before. A file that is
    new, and in which nobody found anything, has nothing to show."""
    about = [comment for comment in pull.comments if comment.path in (change.path, change.previous_path)]
    review = reviewed(about, options.findings)
    if review is None:
        review = fixed(change, pull.title, pull.labels, options.findings if alone else [])
    told = review.record()
    if not told["code"].strip():
        return {}
    code, note = _cut(told["code"], options.code_lines)
    if note and any(finding["line"] not in map(str.strip, _unmarked(code)) for finding in told.get("findings", ())):
        told = {}
    said = [_comment(comment) for comment in about]
    described = _change(change)
    notes = [*pull.notes, *filter(None, (change.note, note))]
    return {**described, **told, "code": code, "comments": said, "notes": notes}


def _whole(pull: Pull, options: PullRequestOptions) -> dict[str, Any]:
    """The pull request with all its files, and what its text and its files tell of an automation."""
    told = read_text(pull.title, pull.body, [], [], [])
    signals = told.get("telemetry") or ([told["alert"]] if "alert" in told else None)
    return {
        "body": pull.body,
        "files": [_change(change) for change in pull.files],
        "comments": [_comment(comment) for comment in pull.comments],
        "failure": " ".join(told.get("symptoms", ())),
        "root_cause": told.get("root_cause"),
        "signals": signals,
        "manual_steps": told.get("manual_steps"),
        "automation": _automation(pull.files, options.automations),
    }


def _automation(files: Sequence[FileChange], paths: Sequence[str]) -> dict[str, Any] | None:
    """The automation that a pull request adds, where one new file of it, and no other, describes one."""
    found = []
    for change in files:
        if change.status != "added" or change.note or not any(fnmatch(change.path, path) for path in paths):
            continue
        try:
            described = _described(yaml.safe_load(diffs.added(change.patch)))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        found += [described] if described else []
    return found[0] if len(found) == 1 else None


def _described(value: Any) -> dict[str, Any] | None:
    """A file's automation: a mapping with ``name``, ``trigger`` (an alert), ``steps`` and ``rollback``, each step with
    its ``function``. What it says beyond that is its own."""
    if not isinstance(value, Mapping) or not isinstance(value.get("steps"), list):
        return None
    steps, rollback = [_step(step) for step in value["steps"]], _step(value.get("rollback"))
    trigger = value.get("trigger")
    trigger = trigger.get("alert") if isinstance(trigger, Mapping) else trigger
    if not (steps and all(steps) and rollback and isinstance(trigger, str) and isinstance(value.get("name"), str)):
        return None
    return {"name": value["name"], "trigger": trigger, "steps": steps, "rollback": rollback}


def _step(value: Any) -> dict[str, str] | None:
    value = {"function": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not isinstance(value.get("function"), str):
        return None
    return {name: str(value[name]) for name in ("function", "when") if value.get(name)}


def _change(change: FileChange) -> dict[str, Any]:
    told = asdict(change)
    text = diffs.before(change.patch) or diffs.added(change.patch)
    return {**{name: value for name, value in told.items() if value != ""}, "kind": kind_of(change.path, text)}


def _comment(comment: ReviewComment) -> dict[str, Any]:
    return _known({"path": comment.path, "line": comment.line, "body": comment.body, "by": comment.author})


def _cut(code: str, most_lines: int) -> tuple[str, str]:
    lines = code.split("\n")
    if len(lines) <= most_lines:
        return code, ""
    return "\n".join(lines[:most_lines]), f"the code is cut after {most_lines} of {len(lines)} lines"


def _unmarked(code: str) -> list[str]:
    """The lines of code or of hunks, without a hunk's marks."""
    marked = code.startswith("@@ ")
    return [line[1:] if marked else line for line in code.split("\n")]


def _known(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value not in (None, "", [], {})}
