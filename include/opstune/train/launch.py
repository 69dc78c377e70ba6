"""Several processes of one training, a GPU each: how they are started, which of them speaks, and which broke first."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opstune.errors import ConfigError

#: How torch's launcher begins to tell that a process broke; all before it is the processes' own.
_TELLS = re.compile(r"torch/distributed/(elastic/\S+|run)\.py:\d+\]")
_RANK = re.compile(r"^\s*rank\s*:\s*(\d+)")
_EXIT = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)")
#: What the launcher does to the others, and what a process does whose parent is gone.
_FOLLOWS = (-15, 143)
#: What starts a trainer of one process, before the path of its spec.
ALONE = (sys.executable, "-m", "opstune.train")


@dataclass(frozen=True)
class Rank:
    """Which of a training's processes this is, from 0, and of how many."""

    number: int
    of: int

    @property
    def speaks(self) -> bool:
        """Whether this one tells events, holds the work folder and writes the result."""
        return self.number == 0


@dataclass(frozen=True)
class Broken:
    """The process that broke first, and its exit code: negative where a signal ended it."""

    rank: int
    code: int


def rank() -> Rank:
    """This process's rank, as its launcher says; 0 of 1 without one."""
    return Rank(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def processes(environment: Mapping[str, str], devices: int) -> int:
    """One for each device that ``CUDA_VISIBLE_DEVICES`` names, and ``devices`` where it is not set."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    return devices if named is None else max(len([name for name in named.split(",") if name.strip()]), 1)


def share(effective: int, processes: int) -> int:
    """Examples of one optimiser step that each process computes.

    Raises:
        ConfigError: they cannot be shared out evenly, so the steps would not be those of one process.
    """
    if effective % processes:
        what = f"{effective} examples a step cannot be shared out evenly to {processes} GPUs"
        todo = "Make batch_size x accumulation a multiple of the GPUs, or give the task another number of pool slots."
        raise ConfigError(what, "profile", todo)
    return effective // processes


def one_device() -> None:
    """Let a process that no launcher started see one GPU: transformers would put two into one process."""
    if rank().of == 1:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        os.environ["CUDA_VISIBLE_DEVICES"] = first


def command(processes: int) -> tuple[str, ...]:
    """What starts a trainer of several processes, before the path of its spec.

    ``--multi_gpu`` starts them on a CPU as well; ``accelerate launch --cpu`` would start one, without a word.
    """
    chosen = {"num_processes": processes, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no",
              "main_process_port": 0}  # fmt: skip
    options = [text for name, value in chosen.items() for text in (f"--{name}", str(value))]
    return (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *options, *ALONE[1:])


def read(lines: Sequence[str]) -> tuple[Broken | None, list[str]]:
    """(who broke first, the processes' own lines) from the end of a log that a launcher has ended.

    The launcher ends the others with SIGTERM, so a process that ended otherwise broke before them; where
    several did, one that a signal ended, since the others then lose their connection to it.
    """
    ranks = [int(found[1]) for text in lines if (found := _RANK.match(text))]
    codes = [int(found[1]) for text in lines if (found := _EXIT.match(text))]
    ended = [Broken(*pair) for pair in zip(ranks, codes, strict=False)]
    own = [one for one in ended if one.code not in _FOLLOWS] or ended
    # The launcher's own root cause comes last.
    broken = next((one for one in own if one.code < 0), own[-1] if own else None)
    told = next((at for at, text in enumerate(lines) if _TELLS.search(text)), len(lines))
    return broken, list(lines[:told])
