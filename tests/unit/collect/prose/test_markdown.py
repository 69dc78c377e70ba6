from __future__ import annotations

import pytest

from opstune.collect.prose.markdown import Fence, Item, parts, plain, said, titled

KNOWN = ("root cause", "fix", "why did it happen", "steps")


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("## 2. **Root Cause**:", "root cause"),
        ("🔥 Root cause", "root cause"),
        ("_Root cause_ -", "root cause"),
        ("Root cause?", "root cause?"),
        ("Root cause (suspected)", "root cause (suspected)"),
        ("Why did it happen?", "why did it happen"),
        ("[Fix](https://x.example)", "fix"),
        ("---", ""),
    ],
)
def test_a_title_is_its_plain_words(written: str, title: str) -> None:
    assert titled(written) == title


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("**bold** and _soft_ and `code`", "bold and soft and code"),
        ("see [the graph](https://g.example/a_(b)) ![pic](x.png)now", "see the graph now"),
        ("<https://x.example/a>", "https://x.example/a"),
        ("snake_case_name * 2 * 3", "snake_case_name * 2 * 3"),
        ("~~old~~ new\n  line", "old new line"),
        (r"1\. not \*bold\*", "1. not *bold*"),
    ],
)
def test_markup_goes_and_words_stay(written: str, line: str) -> None:
    assert plain(written) == line


@pytest.mark.parametrize(
    "filler",
    ["TBD", "n/a", "**Unknown**", "unknown yet", "-", "...", "?", "None.", "still under investigation", "see above"],
)
def test_what_only_fills_its_place_says_nothing(filler: str) -> None:
    assert said(filler) == ""


@pytest.mark.parametrize("text", ["Unknown host key", "none of the pods had a limit", "no disk", "pending migrations"])
def test_what_only_begins_like_a_filler_is_said(text: str) -> None:
    assert said(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("## Root cause\na\n### Detail\nb\n## Other\nc", [("", ""), ("root cause", "a\nb"), ("other", "c")]),
        ("**Root cause:** a\nb\n\nc", [("", ""), ("root cause", "a\nb"), ("", "c")]),
        ("**Root cause**: a\n**Owner:** b", [("", ""), ("root cause", "a"), ("owner", "b")]),
        ("**Root cause** — a", [("", ""), ("root cause", "a")]),
        ("**Root cause**\n\na\n\nb", [("", ""), ("root cause", "a\n\nb")]),
        ("Fix: a\nOwner: b", [("", ""), ("fix", "a"), ("", "Owner: b")]),
        ("Owner: b", [("", "Owner: b")]),
        ("**Root cause** was found by Jane", [("", "**Root cause** was found by Jane")]),
        ("> ## Fix\n> a", [("", ""), ("fix", "a")]),
        ("## Steps\n**Step 1:** look\n**Step 2:** act", [("", ""), ("steps", "**Step 1:** look\n**Step 2:** act")]),
        ("text\n---\nmore", [("", "text\nmore")]),
        ("* Fix: a\n* Owner: b", [("", ""), ("fix", "a"), ("", "")]),
        ("http://x.example: fix", [("", "http://x.example: fix")]),
    ],
)
def test_a_title_opens_a_part_and_the_next_one_ends_it(text: str, found: list[tuple[str, str]]) -> None:
    assert [(part.title, part.text) for part in parts(text, KNOWN)] == found


def test_lists_fences_and_tables_stand_apart_from_the_text() -> None:
    text = "## Steps\nfirst:\n- [x] a\n  more of a\n- [ ] b\n1) c\n```sh\nls\n```\n~~~\n```\n~~~\n| k | v |\n"
    part = parts(text, KNOWN)[-1]
    assert part.lines == ["first:"]
    assert part.items == [Item("a more of a", True), Item("b", False), Item("c")]
    assert part.fences == [Fence("sh", "ls"), Fence("", "```")]
    assert part.rows == [("k", "v")]
