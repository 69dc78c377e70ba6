"""How a training is followed from a terminal and in a log, seen from outside, through a pipe and a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

_FOLLOW = """
import logging, sys
from opstune.cli.progress import followed
from opstune.train import Progress
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
with followed() as tell:
    tell(Progress(1, 811, 1.6453, 0.0, 2610.0, 802.0, 215.0))
    logging.getLogger("opstune").warning("memory is short")
    tell(Progress(811, 811, 0.0496, 3.9e-6, 993.0, 843.0, 0.0))
logging.getLogger("opstune").warning("afterwards")
print("{}")
"""


def test_a_log_gets_one_line_a_point_and_no_carriage_return() -> None:
    done = subprocess.run([sys.executable, "-c", _FOLLOW], capture_output=True, check=True)
    assert done.stdout == b"{}\n"
    assert done.stderr.decode().split("\n") == [
        "step 1 of 811  loss 1.6453  rate 0.00e+00  2,610 tokens/s  802 MB  3:35 left",
        "memory is short",
        "step 811 of 811  loss 0.0496  rate 3.90e-06  993 tokens/s  843 MB  0:00 left",
        "afterwards",
        "",
    ]


def test_a_terminal_gets_a_bar_with_the_same_figures_and_the_log_above_it() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140"}
    done = subprocess.run(
        [sys.executable, "-c", _FOLLOW], stdout=subprocess.PIPE, stderr=theirs, check=True, env=environment
    )
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.stdout == b"{}\n"
    assert "811/811" in seen
    assert "loss 0.0496  rate 3.90e-06  993 tokens/s  843 MB  0:00 left" in seen
    assert seen.index("memory is short") < seen.index("afterwards")
