"""Runs in LLaMA-Factory's environment: its command line, ended when whoever started it is gone.

``python llamafactory_runner.py train FILE.yaml``. Standard input is a pipe that the starter holds open: its end
means that the starter has died, however it went, and an orphan would keep the GPU.
"""

from __future__ import annotations

import os
import sys
import threading

import psutil


def main() -> None:
    threading.Thread(target=_end_with_starter, daemon=True, name="starter-watch").start()
    from llamafactory.cli import main as command  # type: ignore[import-not-found,unused-ignore]

    command()


def _end_with_starter() -> None:
    while os.read(0, 1):
        pass
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(143)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder: its neighbours are named like the packages that are imported here
    main()
