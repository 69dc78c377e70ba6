"""The trainer process: ``python -m opstune.train SPEC.json``."""

import sys
from pathlib import Path

from opstune.train.child import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
