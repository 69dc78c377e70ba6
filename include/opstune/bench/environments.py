"""Environments for other people's programs: made at first use under OPSTUNE_HOME/bench, never mixed with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from opstune.artifacts import fingerprint
from opstune.cli.output import console
from opstune.errors import ServiceDown


def interpreter(folder: Path, requirements: list[str]) -> Path:
    """The Python of an environment with exactly these packages and what they bring along.

    Raises:
        ServiceDown: pip could not make it; the row that asked cannot be measured.
    """
    python, made = folder / "bin" / "python", folder / "made"
    asked = fingerprint(requirements)
    if not made.is_file() or made.read_text() != asked:
        console.print(f"making {folder} with {', '.join(requirements)}")
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "-qq", *requirements], check=True)
        except subprocess.CalledProcessError as error:
            what = f"not measured: {requirements[0]} could not be installed"
            raise ServiceDown(what, str(folder), "See what pip said above, and try again.") from error
        made.write_text(asked)
    return python
