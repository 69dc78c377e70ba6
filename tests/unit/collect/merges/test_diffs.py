from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opstune.collect.merges.diffs import FileChange, added, before, counted, cut, hunks, parse_diff, removed

DIFF = """commit message before it
diff --git a/run.sh b/run.sh
index 1f2e3d4..5a6b7c8 100755
--- a/run.sh
+++ b/run.sh
@@ -1,3 +1,3 @@ set -e
 set -e
-curl http://one.example
+curl https://one.example
--- a line that went, not a header
@@ -10,2 +10,3 @@
 a
+b
 c
\\ No newline at end of file
diff --git a/old name.tf b/new name.tf
similarity index 90%
rename from old name.tf
rename to new name.tf
--- a/old name.tf\t
+++ b/new name.tf\t
@@ -1 +1 @@
-a
+b
diff --git a/logo.png b/logo.png
new file mode 100644
index 0000000..1111111
Binary files /dev/null and b/logo.png differ
diff --git "a/caf\\303\\251.txt" "b/caf\\303\\251.txt"
deleted file mode 100644
--- "a/caf\\303\\251.txt"
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git a/a.txt b/b.txt
similarity index 100%
copy from a.txt
copy to b.txt
"""


def test_a_diff_is_read_file_by_file() -> None:
    patch = DIFF[DIFF.index("@@ -1,3") : DIFF.index("diff --git a/old")].rstrip("\n")
    assert parse_diff(DIFF, 400) == [
        FileChange("run.sh", "modified", 2, 2, patch),
        FileChange("new name.tf", "renamed", 1, 1, "@@ -1 +1 @@\n-a\n+b", "old name.tf"),
        FileChange("logo.png", "added", 0, 0, note="the file is binary"),
        FileChange("café.txt", "removed", 0, 1, "@@ -1 +0,0 @@\n-x"),
        FileChange("run.sh", "modified", 0, 0),
        FileChange("b.txt", "copied", 0, 0, previous_path="a.txt"),
    ]


def test_a_patch_shows_what_was_there_what_came_and_what_went() -> None:
    patch = parse_diff(DIFF, 400)[0].patch
    assert before(patch) == "set -e\ncurl http://one.example\n-- a line that went, not a header\n\na\nc"
    assert added(patch) == "curl https://one.example\nb"
    assert removed(patch) == ["curl http://one.example", "-- a line that went, not a header"]
    assert counted(patch) == (2, 2)
    assert len(hunks(patch)) == 2


@pytest.mark.parametrize(
    ("most", "lines", "note"),
    [
        (100, 10, ""),
        (7, 5, "the patch is cut after 5 of 10 lines"),
        (3, 3, "the patch is cut after 3 of 10 lines"),
    ],
)
def test_a_long_patch_is_cut_between_hunks_where_one_fits(most: int, lines: int, note: str) -> None:
    found = parse_diff(DIFF, most)[0]
    assert (len(found.patch.split("\n")), found.note, found.additions) == (lines, note, 2)


def test_a_cut_says_so_for_patches_from_anywhere() -> None:
    assert cut("@@ -1 +1,2 @@\n a\n+b", 2) == ("@@ -1 +1,2 @@\n a", "the patch is cut after 2 of 3 lines")


def test_separators_inside_a_line_are_no_line_ends() -> None:
    diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\x0cb\u2028c\n+a\r\n"
    assert parse_diff(diff, 9)[0].patch == "@@ -1 +1 @@\n-a\x0cb\u2028c\n+a\r"


NAMES = [
    "plain.txt",
    "with space.txt",
    "späth.txt",
    'quo"te.txt',
    "tab\there.txt",
    "back\\slash.txt",
    "a b/c b/d.txt",
    " b",
]


def test_every_name_that_git_can_write_is_read_back(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", tmp_path, *arguments], capture_output=True, check=True)
        return done.stdout.decode()

    git("init", "-q")
    for number, name in enumerate(NAMES):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\x00\x01" if number == 0 else f"{number}\n".encode())
    git("add", "-A")
    for option in ("core.quotePath=true", "core.quotePath=false"):
        found = parse_diff(git("-c", option, "diff", "--cached"), 10)
        assert {(one.path, one.status) for one in found} == {(name, "added") for name in NAMES}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from('diff --git a/b"\\+-@ 0123\nrename to\t'), max_size=300))
def test_no_text_breaks_the_reading(text: str) -> None:
    for change in parse_diff("diff --git " + text, 5):
        before(change.patch)
        assert change.additions >= 0
