"""datasketch's plain loop: ``MinHashLSH`` with 128 permutations, each text asked for and then put in."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found,unused-ignore]

_WORD = re.compile(r"\w+")


def main(texts: Path) -> None:
    started = time.perf_counter()
    index = MinHashLSH(threshold=0.7, num_perm=128)
    dropped = []
    with texts.open() as lines:
        for position, line in enumerate(lines):
            words = _WORD.findall(json.loads(line)["text"].lower())
            sketch = MinHash(num_perm=128)
            sketch.update_batch({" ".join(gram).encode() for gram in zip(words, words[1:], words[2:], strict=False)})
            if index.query(sketch):
                dropped.append(position)
            index.insert(position, sketch)
    print(json.dumps({"seconds": time.perf_counter() - started, "dropped": dropped}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
