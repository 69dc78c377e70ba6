"""One dataset build in a process of its own: ``python -m opstune.bench.building HOME DAYS`` prints figures as JSON.

Its own process, so that the peak of its memory is the build's alone.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from opstune import artifacts, pipeline
from opstune.bench.corpus import home
from opstune.dataset import Tokenizer, build, duplicates, leaks, scrub, split, stage, validate
from opstune.train import base_folder, load_profile

#: Step → the functions that do it, each as its module and name.
STEPS: dict[str, list[tuple[Any, str]]] = {
    "read": [(stage, "read_snapshot")],
    "validate": [(validate, "usable"), (validate, "reachable"), (validate, "settled")],
    "scrub": [(scrub, "scrub")],
    "duplicates": [(duplicates, "text_of"), (duplicates, "find")],
    "split": [(split, "place"), (leaks, "Questions"), (leaks, "decontaminate")],
    "write": [(stage, "write"), (split, "write")],
}


def main(folder: Path, days: int) -> None:
    """Build once, full, as a first retrain does, and print what it took: the whole, its work, each step, memory."""
    settings = home(folder, days)
    examples = artifacts.open_ref(folder / "collect")
    tokenizer = Tokenizer("tiny-ops", base_folder(load_profile("tiny")) / "tokenizer.json")
    steps: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    for step, functions in STEPS.items():
        for module, name in functions:
            setattr(module, name, _clocked(getattr(module, name), step, steps))
    started, worked = time.perf_counter(), time.process_time()
    ref = build(
        folder / "dataset",
        examples,
        folder / "splits.parquet",
        settings.dataset,
        "full",
        tokenizer=tokenizer,
        keyring=pipeline.keyring(settings),
    )
    took = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
    told = {"examples": examples.counts["rows"], "kept": sum(ref.counts[name] for name in split.SPLITS)}
    print(json.dumps({**told, **took, "steps": steps, "peak_mb": _peak_mb()}))


def _clocked(function: Any, step: str, steps: dict[str, float]) -> Any:
    def clocked(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            steps[step] += time.perf_counter() - started

    return clocked


def _peak_mb() -> float:
    """The most memory that this process held. Linux's getrusage would count what its parent held when it was forked."""
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
