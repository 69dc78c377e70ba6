from __future__ import annotations

import pytest

from opstune.registry import numbers
from opstune.settings import Mode


@pytest.mark.parametrize(
    ("taken", "mode", "parent", "base_changed", "expected"),
    [
        ([], "full", None, False, "1.0.0"),
        ([], "incremental", None, False, "1.0.0"),
        (["1.0.0"], "incremental", "1.0.0", False, "1.0.1"),
        (["1.0.0"], "full", None, False, "1.1.0"),
        (["1.0.0", "1.9.0", "1.10.0"], "full", None, False, "1.11.0"),
        (["1.0.0", "1.1.0"], "incremental", "1.0.0", False, "1.0.1"),
        (["1.0.0", "1.0.1", "1.1.0"], "incremental", "1.0.0", False, "1.0.2"),
        (["1.2.3"], "full", None, True, "2.0.0"),
        (["1.2.3"], "incremental", "1.2.3", True, "2.0.0"),
        (["1.2.3"], "incremental", None, False, "1.2.4"),
    ],
)
def test_the_next_version_follows_from_mode_parent_and_base(
    taken: list[str], mode: Mode, parent: str | None, base_changed: bool, expected: str
) -> None:
    assert numbers.following(taken, mode, parent, base_changed) == expected
