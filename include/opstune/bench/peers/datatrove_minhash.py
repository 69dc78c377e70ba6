"""datatrove's MinHash pipeline on all cores: signatures, buckets, clusters; word 3-grams, all else its defaults.

The fourth step, which copies the texts without those to leave out, is not run and not counted.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found,unused-ignore]
from datatrove.pipeline.dedup import (  # type: ignore[import-not-found,unused-ignore]
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig  # type: ignore[import-not-found,unused-ignore]
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found,unused-ignore]


def main(texts: Path, work: Path) -> None:
    workers = os.cpu_count() or 1
    starts = _share_out(texts, work / "input", workers)
    config = MinhashConfig(n_grams=3)
    signatures, buckets, removed = (str(work / name) for name in ("signatures", "buckets", "removed"))
    reader = JsonlReader(str(work / "input"))
    steps = [
        ([reader, MinhashDedupSignature(signatures, config=config)], workers),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
        ([MinhashDedupCluster(buckets, removed, config=config)], 1),
    ]
    started = time.perf_counter()
    for number, (pipeline, tasks) in enumerate(steps):
        logs = str(work / f"logs-{number}")
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, workers), logging_dir=logs).run()
    seconds = time.perf_counter() - started
    dropped = []
    for file in sorted((work / "removed").glob("*.remove")):
        dropped += [starts[int(file.stem)] + place for (place,) in struct.iter_unpack("<I", file.read_bytes())]
    print(json.dumps({"seconds": seconds, "dropped": sorted(dropped)}))


def _share_out(texts: Path, folder: Path, parts: int) -> list[int]:
    """One file a worker, in order; returns the position at which each begins."""
    folder.mkdir(parents=True)
    lines = texts.read_text().splitlines(keepends=True)
    size = -(-len(lines) // parts)
    for part in range(parts):
        (folder / f"{part:05d}.jsonl").write_text("".join(lines[part * size : (part + 1) * size]))
    return [part * size for part in range(parts)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
