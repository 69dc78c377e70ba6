"""What a commit's parents and message say about the request that it merged."""

from __future__ import annotations

from typing import Any

import pytest

from opstune.collect.merges.git_clone import read_merge

ONE, TWO = ["a" * 40], ["a" * 40, "b" * 40]


@pytest.mark.parametrize(
    ("parents", "message", "told"),
    [
        (
            TWO,
            "Merge pull request #12 from acme/fix-pool\n\nFix the pool\n\nCloses OPS-7\n",
            {"number": 12, "branch": "acme/fix-pool", "title": "Fix the pool", "body": "Closes OPS-7"},
        ),
        (TWO, "Merge pull request #12 from acme/x", {"number": 12, "title": "Merge pull request #12 from acme/x"}),
        (ONE, "Fix the pool (#13)\n\n* one\n* two", {"number": 13, "title": "Fix the pool", "body": "* one\n* two"}),
        (ONE, "Fix the pool (!13)", {"number": 13, "title": "Fix the pool"}),
        (
            TWO,
            "Merge branch 'fix-pool' into 'main'\n\nFix the pool\n\nSee merge request acme/shop!14",
            {"number": 14, "branch": "fix-pool", "title": "Fix the pool"},
        ),
        (ONE, "Fix the pool\n\nSee merge request acme/shop!15", {"number": 15, "title": "Fix the pool"}),
        (
            TWO,
            "Merged in fix-pool (pull request #16)\n\nFix the pool",
            {"number": 16, "branch": "fix-pool", "title": "Fix the pool"},
        ),
        (TWO, "Merged PR 17: Fix the pool\n\nbody", {"number": 17, "title": "Fix the pool", "body": "body"}),
        (TWO, "Merge branch 'fix/pool'", {"number": None, "branch": "fix/pool", "title": "Merge branch 'fix/pool'"}),
        (TWO, "Bring it in", {"number": None, "title": "Bring it in"}),
        (
            ONE,
            "Fix it (#1)\n\nReviewed-by: Jane Doe <j@x.example>\nAcked-by: Sam\nReviewed-by: Jane Doe <j@x.example>",
            {"reviewers": ("Jane Doe", "Sam")},
        ),
    ],
)
def test_a_merge_is_known_by_its_parents_and_its_message(
    parents: list[str], message: str, told: dict[str, Any]
) -> None:
    found = read_merge("c" * 40, parents, 1_770_000_000, "sam", message)
    assert found and {name: getattr(found, name) for name in told} == told
    assert found.parent == parents[0]


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        (ONE, "straight to main"),
        (ONE, "see #12 for more"),
        ([], "Begin (#1)"),
        (TWO, "Merge branch 'main' of git.example:acme/shop"),
        (TWO, "Merge remote-tracking branch 'origin/main' of x into main"),
        (ONE, ""),
    ],
)
def test_what_was_pushed_straight_or_only_brought_up_to_date_is_no_request(parents: list[str], message: str) -> None:
    assert read_merge("c" * 40, parents, 1_770_000_000, "sam", message) is None
