"""What a review, a title or a label says is dangerous in a file, through a team's own table of words. Pure.

A finding exists only where somebody said so and where the line is known; whatever else is dangerous nobody has said,
so an example without one waits for annotation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from opstune.collect.merges import diffs
from opstune.collect.merges.diffs import FileChange
from opstune.collect.prose.markdown import plain
from opstune.settings import Section
from opstune.skills.audit import RISKS, Risk
from opstune.skills.code_review import Kind

#: What the answer's schema takes of a piece of advice; a longer sentence is left out rather than cut.
_ADVICE = 120
_FENCED = re.compile(r"(?ms)^\s*(```|~~~).*?(?:^\s*\1|\Z)")
_BULLET = re.compile(r"\s*(?:[-*+•#]+|\d{1,3}[.)])\s+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_DENIED = re.compile(r"(?i)\b(?:no|not|isn't|aren't|never|without|nothing|wasn't|false positive|instead of)\b")


class FindingRule(Section):
    """A kind of finding, the words that say it (whole words, any case), labels that say it of a whole pull request,
    and how much it risks."""

    kind: Kind
    words: list[str] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)
    risk: Risk

    @field_validator("words")
    @classmethod
    def _are_words(cls, words: list[str]) -> list[str]:
        if not all(re.search(r"\w", word) for word in words):
            raise ValueError("words must hold letters")
        return words

    def said_in(self, sentence: str) -> bool:
        """Whether a sentence says this: not that it is not so, and not as a question."""
        if sentence.rstrip().endswith("?"):
            return False
        for word in self.words:
            pattern = r"\s+".join(map(re.escape, word.split()))
            found = re.search(rf"(?i)(?<!\w){pattern}(?!\w)", sentence)
            if found and not _DENIED.search(sentence[max(found.start() - 30, 0) : found.start()]):
                return True
        return False


@dataclass(frozen=True)
class ReviewComment:
    """A comment on a line: ``hunk`` ends with that line, ``removed`` says that it stands on the side that goes.
    ``counts`` is false for replies, bots and the author's own words."""

    path: str
    line: int | None
    body: str
    author: str = ""
    hunk: str = ""
    removed: bool = False
    counts: bool = True


@dataclass(frozen=True)
class Review:
    """What is to be reviewed of a file, and what was said about it: none where nobody said anything."""

    code: str
    findings: Sequence[dict[str, str]] = ()
    risk: Risk | None = None

    def record(self) -> dict[str, Any]:
        told = {"findings": list(self.findings), "risk": self.risk} if self.risk else {}
        return {"code": self.code, **told}


def reviewed(comments: Sequence[ReviewComment], rules: Sequence[FindingRule]) -> Review | None:
    """The hunks of a file as they were when reviewers found something in them, with what they found. ``comments``
    are those on this file."""
    findings: dict[tuple[str, str], dict[str, str]] = {}
    risks: list[Risk] = []
    shown: list[str] = []
    for comment in comments:
        line = _line(comment)
        if not line:
            continue
        for rule, sentence in _said(comment.body, rules):
            advice = sentence if len(sentence) <= _ADVICE else ""
            findings.setdefault((rule.kind, line), {"kind": rule.kind, "line": line, "advice": advice})
            risks.append(rule.risk)
            shown.append(comment.hunk)
    return Review(_joined(shown), list(findings.values()), _worst(risks)) if findings else None


def fixed(change: FileChange, title: str, labels: Sequence[str], rules: Sequence[FindingRule]) -> Review:
    """A file as it was before its fix. Where the title or a label says what was wrong, and one line alone went, that
    line is what was wrong; the caller makes sure that the pull request took no other line away."""
    code, gone = diffs.before(change.patch), diffs.removed(change.patch)
    known = [
        (rule, sentence)
        for rule in rules
        for sentence in _SENTENCE.split(plain(title))
        if rule.said_in(sentence) or any(label in rule.labels for label in labels)
    ]
    kinds = list(dict.fromkeys(rule.kind for rule, _ in known))
    if len(gone) != 1 or len(kinds) != 1:
        return Review(code)
    advice = plain(title) if len(plain(title)) <= _ADVICE else ""
    return Review(
        code, [{"kind": kinds[0], "line": gone[0], "advice": advice}], _worst([rule.risk for rule, _ in known])
    )


def _said(body: str, rules: Sequence[FindingRule]) -> list[tuple[FindingRule, str]]:
    """The rules whose words a comment says, each with the sentence."""
    sentences = [sentence for block in _blocks(body) for sentence in _SENTENCE.split(plain(block))]
    found = []
    for rule in rules:
        sentence = next((sentence for sentence in sentences if rule.said_in(sentence)), None)
        if sentence is not None:
            found.append((rule, sentence))
    return found


def _blocks(body: str) -> list[str]:
    """Paragraphs and items of lists; what is quoted, and code, the comment does not say itself."""
    blocks = [""]
    for line in _FENCED.sub("\n\n", body).splitlines():
        if line.lstrip().startswith(">"):
            continue
        item = _BULLET.match(line)
        if item or not line.strip():
            blocks.append("")
        blocks[-1] += f" {line[item.end() :] if item else line}"
    return blocks


def _line(comment: ReviewComment) -> str:
    """The line that a comment stands on, empty where it cannot be quoted."""
    if not comment.counts or comment.removed or not comment.hunk:
        return ""
    last = comment.hunk.rstrip("\n").rsplit("\n", 1)[-1]
    return last[1:].strip() if last[:1] in ("+", " ") else ""


def _joined(shown: Sequence[str]) -> str:
    """Each hunk once; of two that begin alike the longer one, which goes on to a later line."""
    hunks = list(dict.fromkeys(hunk.rstrip("\n") for hunk in shown))
    whole = [hunk for hunk in hunks if not any(other != hunk and other.startswith(f"{hunk}\n") for other in hunks)]
    return "\n".join(whole)


def _worst(risks: Sequence[Risk]) -> Risk:
    return max(risks, key=RISKS.index)
