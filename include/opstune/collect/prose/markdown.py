"""Markdown as people write it in issues: titled parts, whether the title is a heading, a bold label or a plain one.

Only titles that the reader knows may be plain (``Root cause: ...``) or stand in a list or a table: any other line
with a colon is text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([\w.+-]*)")
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.+?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-{3,})\s*$")
_FOLD = re.compile(r"^\+\+\+\s*(.*)$")
_QUOTE = re.compile(r"^ {0,3}(?:>\s?)+")
_ITEM = re.compile(r"^(\s*)(?:[-*+•]|\d{1,3}[.)])\s+(?:\[([ xX])\]\s+)?(\S.*)$")
_ROW = re.compile(r"^\s*\|(.+?)\|(.+?)\|\s*$")
_MARKED = re.compile(r"^(\*\*|__|\*|_)(?=\S)(.+?)(?<=\S)\1\s*(.*)$")
_PLAIN = re.compile(r"^([A-Za-z][\w '’/&()?-]{1,44}?)\s*(?::|\s[–—-])(?:\s+(.*))?$")
_STRANGER = re.compile(r"^[A-Z][A-Za-z ]{1,24}:\s")
_STEP = re.compile(r"step \d+")
_ASKING = re.compile(r"(?:why|what|how)\b")
_LINK = re.compile(r"(!?)\[([^\[\]\n]*)\]\((?:[^()\n]|\([^()\n]*\))*\)")
_MARKUP = re.compile(r"[\[<*_~`\\]")
_NOTHING = re.compile(
    r"(?i)\W*(?:(?:still |currently |as yet |yet )?"
    r"(?:to be (?:determined|done|confirmed|filled(?: in)?)|tb[dcah]|unknown|unclear|undetermined|under investigation"
    r"|being investigated|investigating|pending|not (?:yet )?(?:known|clear|determined|found|identified|applicable"
    r"|available)|n/?a|none|nothing|no|todo|wip|see (?:above|below|comments?|thread|slack|postmortem|post-mortem|doc)"
    r"|\?+|\.+|x+)(?: yet| at this time| so far| for now| still)?)?\W*"
)
#: Below every heading: labels end where a heading stands.
_LABEL = 7


@dataclass(frozen=True)
class Item:
    """An item of a list. ``done`` is none where it has no box to tick."""

    text: str
    done: bool | None = None


@dataclass(frozen=True)
class Fence:
    language: str
    text: str


@dataclass
class Part:
    """What stands under one title, in plain lower-case words; ``text`` keeps its markup. Before the first title,
    and after a label's own lines, the title is empty."""

    title: str
    level: int = 0
    lines: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


def parts(text: str, known: Collection[str]) -> list[Part]:
    """The parts of a text, in order. ``known`` are the titles that matter, as ``titled`` writes them."""
    reading = _Reading(known)
    for line in _without_html(text).splitlines():
        reading.take(line)
    reading.close_fence()
    return reading.parts


def titled(text: str) -> str:
    """A title in plain lower-case words: ``## 2. **Root Cause**:`` and ``🔥 Root cause`` are both ``root cause``.

    The question mark stays where it means doubt (``Root cause?``) and goes where the title is a question.
    """
    words = re.sub(r"^[\W\d_]+", "", plain(text)).replace("’", "'")
    words = re.sub(r"[^\w)?]+$", "", words).strip().lower()
    return words.rstrip("? ") if _ASKING.match(words) else words


def plain(text: str) -> str:
    """One line without markup: links by their text, pictures gone, white space single."""
    if not _MARKUP.search(text):
        return " ".join(text.split())
    text = _LINK.sub(lambda link: "" if link[1] else link[2], text)
    text = re.sub(r"<((?:https?|mailto):[^>\s]+)>", r"\1", text)
    text = re.sub(r"(\*\*|__|~~)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<![\w*\\])([*_])(?=\S)([^*_\n]+?)(?<=[^\s\\])\1(?![\w*])", r"\2", text)
    text = re.sub(r"`+([^`\n]+)`+", r"\1", text)
    text = re.sub(r"\\([\\`*_{}\[\]()#+.!|<>~-])", r"\1", text)
    return " ".join(text.split())


def said(text: str) -> str:
    """The text on one line, empty where it only fills its place: TBD, n/a, unknown, under investigation."""
    line = plain(text)
    return "" if _NOTHING.fullmatch(line) else line


def _without_html(text: str) -> str:
    if "<" not in text:
        return text
    text = re.sub(r"<!--.*?(?:-->|\Z)", "", text.replace("\r\n", "\n"), flags=re.S)
    text = re.sub(r"(?i)<summary>([^<\n]*)</summary>", r"\n###### \1\n", text)
    text = re.sub(r"(?i)</?details[^>]*>", "\n", text)
    return re.sub(r"(?i)<br\s*/?>", "\n", text)


class _Reading:
    """Line by line: which part is open, and whether a fence is."""

    def __init__(self, known: Collection[str]) -> None:
        self.known = known
        self.parts = [Part("")]
        self._fence: tuple[str, str, list[str]] | None = None
        self._own_line = False
        self._listed: int | None = None
        self._blank = False

    @property
    def part(self) -> Part:
        return self.parts[-1]

    def take(self, line: str) -> None:
        line = line if self._fence else _QUOTE.sub("", line)
        if self._in_fence(line):
            return
        if not line.strip():
            self._blank = True
            self.part.lines.append("")
            return
        if not self._titles(line):
            self._body(line)
        self._blank = False

    def close_fence(self) -> None:
        if self._fence:
            self.part.fences.append(Fence(self._fence[1], "\n".join(self._fence[2]).strip("\n")))
            self._fence = None

    def _in_fence(self, line: str) -> bool:
        mark = _FENCE.match(line)
        if self._fence is None:
            if mark:
                self._fence = (mark[1], mark[2].lower(), [])
            return bool(mark)
        if mark and mark[1].startswith(self._fence[0]) and not mark[2]:
            self.close_fence()
        else:
            self._fence[2].append(line)
        return True

    def _titles(self, line: str) -> bool:
        """Open a part where the line is a title, or begins with one."""
        if heading := _HEADING.match(line):
            self._head(heading[2], len(heading[1]))
        elif fold := _FOLD.match(line):
            self._head(fold[1], 6)
        elif _UNDERLINE.match(line):
            before = self.part.lines[-1] if self.part.lines else ""
            if titled(before) in self.known and not self._blank:
                self.part.lines.pop()
                self._head(before, 2)
        else:
            return self._labels(line)
        return True

    def _head(self, title: str, level: int) -> None:
        """A heading below a known one that says nothing known itself belongs to it."""
        name = titled(title)
        if name in self.known or not self.part.title or level <= self.part.level or self.part.level == _LABEL:
            self._open(name, level)

    def _labels(self, line: str) -> bool:
        item = _ITEM.match(line)
        text = (item[3] if item else line).strip()
        listed = len(item[1]) if item else None
        if self._listed is not None and listed is not None and listed <= self._listed:
            self._open("", 0)
        if row := _ROW.match(line):
            name = titled(row[1])
            return name in self.known and self._open(name, _LABEL, row[2].strip())
        if found := _MARKED.match(text):
            inner, after = found[2].strip(), found[3].strip()
            colon = inner.endswith(":") or after.startswith((":", "-", "–", "—"))
            name = titled(inner)
            if name in self.known and (colon or not after):
                return self._open(name, _LABEL, after.lstrip(":-–— "), listed)
            title = (colon or not after) and found[1] in ("**", "__") and not item and not _STEP.fullmatch(name)
            return title and self._open(name, _LABEL, after.lstrip(":-–— "))
        if (found := _PLAIN.match(text)) and titled(found[1]) in self.known:
            return self._open(titled(found[1]), _LABEL, (found[2] or "").strip(), listed)
        if self._own_line and not item and _STRANGER.match(text):
            return self._open("", _LABEL, text)
        return False

    def _open(self, title: str, level: int, text: str = "", listed: int | None = None) -> bool:
        """``listed`` is the indentation of the list item that the title stands in: the next item ends the part."""
        self.parts.append(Part(title, level, [text] if text else []))
        self._own_line, self._listed = level == _LABEL and bool(text), listed
        return True

    def _body(self, line: str) -> None:
        item = _ITEM.match(line)
        if self._own_line and self._blank and (not item or self.part.items):
            self._open("", 0)
        if item:
            self.part.items.append(Item(item[3].strip(), None if item[2] is None else item[2] in "xX"))
            return
        if row := _ROW.match(line):
            self.part.rows.append((plain(row[1]), plain(row[2])))
            return
        if self.part.items and line.startswith("  ") and not self._blank:
            last = self.part.items[-1]
            self.part.items[-1] = Item(f"{last.text} {line.strip()}", last.done)
            return
        self.part.lines.append(line.strip())
