"""``python -m opstune.cli``."""

from opstune.cli import main

main()
