"""Examples for stores that are to be read, harmed or rotated, and a store as it was before there was encryption."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from opstune.artifacts import fingerprint
from opstune.examples import Example, example_id
from opstune.tables import to_table

DAY = datetime(2026, 1, 5, 12, tzinfo=UTC)


def example(number: int, **changes: Any) -> Example:
    base: dict[str, Any] = {
        "id": example_id("s", str(number), "triage"),
        "skill": "triage",
        "source": "s",
        "source_id": str(number),
        "group_id": f"g{number}",
        "occurred_at": DAY + timedelta(minutes=number),
        "context": {"title": "the checkout is slow"},
        "answer": {"severity": "SEV-2"},
    }
    return Example(**{**base, **changes})


def write_plain(root: Path, number: int, examples: Sequence[Example]) -> Path:
    """A part as opstune 0.1 wrote it: unencrypted, its name without a key."""
    digests = [fingerprint(one.model_dump(mode="json")) for one in examples]
    buffer = io.BytesIO()
    pq.write_table(to_table(examples).append_column("digest", pa.array(digests)), buffer, compression="zstd")
    content = buffer.getvalue()
    folder = root / f"source={examples[0].source}" / f"day={examples[0].occurred_at:%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{number:06d}-{hashlib.sha256(content).hexdigest()[:12]}.parquet"
    path.write_bytes(content)
    return path


def flip(path: Path, position: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1
    path.write_bytes(content)
