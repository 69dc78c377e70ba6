"""Shares and differences of shares, as people read them."""

from __future__ import annotations


def share_told(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def points_told(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{value * 100:+.1f}" if abs(value) >= 0.0005 else "0.0"
