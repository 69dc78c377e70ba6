"""Unified diffs as git and GitHub write them: files, hunks, the code before the change. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["added", "removed", "modified", "renamed", "copied"]

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@")
_ESCAPE = re.compile(r'\\([abfnrtv"\\]|[0-7]{3})')
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, '"': 34, "\\": 92}


@dataclass(frozen=True)
class FileChange:
    """What a change does to one file. ``patch`` holds the hunks alone; it is empty where there is no text to show.
    ``note`` says what is not as it was: binary, cut, left out by the system."""

    path: str
    status: Status
    additions: int
    deletions: int
    patch: str = ""
    previous_path: str = ""
    note: str = ""


def parse_diff(text: str, most_lines: int) -> list[FileChange]:
    """The files of a git diff, in its order, patches cut to so many lines. What stands before the first file is
    passed over."""
    return [_file(block, most_lines) for block in _blocks(text)]


def cut(patch: str, most_lines: int) -> tuple[str, str]:
    """A patch of at most so many lines, whole hunks where one fits, and a note where something is missing."""
    lines = patch.split("\n")
    if len(lines) <= most_lines:
        return patch, ""
    kept: list[str] = []
    for hunk in hunks(patch):
        own = hunk.split("\n")
        if len(kept) + len(own) > most_lines:
            break
        kept += own
    kept = kept or lines[:most_lines]
    return "\n".join(kept), f"the patch is cut after {len(kept)} of {len(lines)} lines"


def hunks(patch: str) -> list[str]:
    """The hunks of a patch, each with its header."""
    found: list[list[str]] = []
    for line in patch.split("\n"):
        if _HUNK.match(line):
            found.append([line])
        elif found:
            found[-1].append(line)
    return ["\n".join(lines).rstrip("\n") for lines in found]


def before(patch: str) -> str:
    """The code that stood there before, without marks; of several hunks with an empty line between."""
    return "\n\n".join(_side(hunk, "-") for hunk in hunks(patch) if _side(hunk, "-").strip())


def added(patch: str) -> str:
    """The lines that came; of a new file all of it."""
    return "\n".join(line[1:] for hunk in hunks(patch) for line in hunk.split("\n")[1:] if line.startswith("+"))


def removed(patch: str) -> list[str]:
    """The lines that went, without marks and indentation, empty ones left out."""
    gone = (line[1:].strip() for hunk in hunks(patch) for line in hunk.split("\n")[1:] if line.startswith("-"))
    return [line for line in gone if line]


def counted(patch: str) -> tuple[int, int]:
    """Lines that came and lines that went."""
    marks = [line[:1] for hunk in hunks(patch) for line in hunk.split("\n")[1:]]
    return marks.count("+"), marks.count("-")


def _side(hunk: str, mark: str) -> str:
    return "\n".join(line[1:] for line in hunk.split("\n")[1:] if line[:1] in (" ", mark))


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines are split at line feeds only: other separators are part of the code."""
    block: list[str] = []
    for line in text.split("\n"):
        if line.startswith("diff --git "):
            if block:
                yield block
            block = [line]
        elif block:
            block.append(line)
    if block:
        yield block


def _file(block: list[str], most_lines: int) -> FileChange:
    start = next((number for number, line in enumerate(block) if _HUNK.match(line)), len(block))
    head, patch = block[:start], "\n".join(block[start:]).rstrip("\n")
    said = {name: line[len(name) + 1 :] for line in head for name in _HEADERS if line.startswith(f"{name} ")}
    old, new = _path(said.get("---", "")), _path(said.get("+++", ""))
    status: Status = "modified"
    for name, means in _STATUSES.items():
        if any(line.startswith(name) for line in head):
            status = means
    if "rename to" in said or "copy to" in said:
        old = _unquoted(said.get("rename from", said.get("copy from", "")))
        new = _unquoted(said.get("rename to", said.get("copy to", "")))
    path = new or old or _named_twice(block[0])
    binary = any(line.startswith(("Binary files ", "GIT binary patch")) for line in head)
    additions, deletions = counted(patch)
    shown, note = cut(patch, most_lines)
    moved = old if old != path and status in ("renamed", "copied") else ""
    return FileChange(path, status, additions, deletions, shown, moved, "the file is binary" if binary else note)


_HEADERS = ("---", "+++", "rename from", "rename to", "copy from", "copy to")
_STATUSES: dict[str, Status] = {
    "new file mode": "added",
    "deleted file mode": "removed",
    "rename to ": "renamed",
    "copy to ": "copied",
}


def _path(name: str) -> str:
    """A path of a ``---`` or ``+++`` line: without its prefix and the tab behind a name with spaces."""
    name = _unquoted(name.rstrip("\t\r"))
    return "" if name == "/dev/null" else name[2:]


def _named_twice(line: str) -> str:
    """The path of ``diff --git a/x b/x``, which is all there is for a binary file or a change of mode."""
    names = line.removeprefix("diff --git ")
    if names.endswith('"'):
        return _unquoted(names[names.index(' "') + 1 :])[2:] if ' "' in names else names
    return names[len(names) // 2 + 1 :][2:]


def _unquoted(name: str) -> str:
    """Git puts names with unusual characters in quotes, their bytes in octal."""
    if not (len(name) > 1 and name.startswith('"') and name.endswith('"')):
        return name
    found = bytearray()
    place = 0
    for escape in _ESCAPE.finditer(name, 1, len(name) - 1):
        found += name[max(place, 1) : escape.start()].encode()
        found.append(_ESCAPES[escape[1]] if escape[1] in _ESCAPES else int(escape[1], 8) & 255)
        place = escape.end()
    return (found + name[max(place, 1) : -1].encode()).decode(errors="replace")
