"""Environments for other people's programs: made at first use under OPSTUNE_HOME/bench, never mixed with ours.

``python -m opstune.bench.environments FOLDER`` makes LLaMA-Factory's, for the backend of that name and its tests.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from opstune.artifacts import fingerprint
from opstune.cli.output import console
from opstune.errors import ServiceDown

#: LLaMA-Factory's own pins, and what of its dependencies its training imports. torch, numpy and the like, which it
#: pins loosely, are ours: two gigabytes less.
LLAMAFACTORY = [
    "llamafactory==0.9.5",
    "accelerate==1.11.0",
    "datasets==4.0.0",
    "dill==0.3.8",
    "docstring-parser==0.18.0",
    "einops==0.8.2",
    "fire==0.7.1",
    "fsspec==2025.3.0",
    "huggingface-hub==1.33.0",
    "multiprocess==0.70.16",
    "omegaconf==2.4.0",
    "peft==0.18.1",
    "shtab==1.13.0",
    "termcolor==3.3.0",
    "tiktoken==0.14.0",
    "tokenizers==0.22.2",
    "transformers==5.6.0",
    "trl==0.24.0",
    "tyro==0.8.14",
]
#: Imported for sound, which nobody trains on here; its wheels would bring another torch.
_LLAMAFACTORY_EMPTY = ("torchaudio",)


def llamafactory(folder: Path) -> Path:
    """The Python of an environment with LLaMA-Factory on our torch.

    Raises:
        ServiceDown: pip could not make it.
    """
    return interpreter(folder, LLAMAFACTORY, on_ours=True, empty=_LLAMAFACTORY_EMPTY)


def interpreter(folder: Path, requirements: list[str], *, on_ours: bool = False, empty: tuple[str, ...] = ()) -> Path:
    """The Python of an environment with exactly these packages and what they bring along.

    With ``on_ours`` they bring nothing along: what they need beside themselves they find in this interpreter's
    environment, behind their own. ``empty`` names modules that are imported and never used, and stand there empty.

    Raises:
        ServiceDown: pip could not make it; the row that asked cannot be measured.
    """
    python, made = folder / "bin" / "python", folder / "made"
    asked = fingerprint([*requirements, *empty])
    if not made.is_file() or made.read_text() != asked:
        console.print(f"making {folder} with {', '.join(requirements)}")
        alone = ["--no-deps"] if on_ours else []
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "-qq", *alone, *requirements], check=True)
        except subprocess.CalledProcessError as error:
            what = f"not measured: {requirements[0]} could not be installed"
            raise ServiceDown(what, str(folder), "See what pip said above, and try again.") from error
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        if on_ours:
            (packages / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        for name in empty:
            (packages / f"{name}.py").write_text("")
        made.write_text(asked)
    return python


if __name__ == "__main__":
    llamafactory(Path(sys.argv[1]).resolve())
