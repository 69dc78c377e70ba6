"""What a training needs at least, derived from its base and its profile: room on the disk and memory."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from opstune.train.profiles import Profile

_BLOCK = re.compile(r"\.(\d+)\.")
#: Embeddings and heads: adapters leave them alone.
_NO_LINEAR = re.compile(r"embed|wte|wpe|lm_head")
#: Bytes of Adam's two moments of one learnt parameter, in float32 or in 8 bits.
_MOMENTS = {"adamw": 8, "adamw_8bit": 2}
#: Bytes of one parameter of the base on a GPU. NF4 is half a byte, and its scales a little more.
_WEIGHT = {"lora": 2.0, "qlora": 0.55, "full": 2.0, "freeze": 2.0}
#: Bytes of one parameter while a merged model is converted: itself, the 16-bit GGUF, and the quantised one.
_MERGE = 2.0 + 2.0 + 1.1
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters: of the base, and of what is learnt."""

    base: int
    learnt: int

    def frozen(self, profile: Profile) -> int:
        """Of the base: all of it beside an adapter, else what is not learnt itself."""
        return self.base if profile.lora is not None else self.base - self.learnt


def sizes(base: Path, profile: Profile) -> Sizes:
    """Counted in the headers of the base's weights, which takes no time however large they are."""
    tensors = {name: entry["shape"] for file in sorted(base.glob("*.safetensors")) for name, entry in _header(file)}
    whole = sum(math.prod(shape) for shape in tensors.values())
    if profile.lora is not None:
        return Sizes(whole, profile.lora.rank * sum(sum(shape) for shape in _adapted(tensors, profile).values()))
    if profile.freeze is None:
        return Sizes(whole, whole)
    blocks = {name: int(found[1]) for name in tensors if (found := _BLOCK.search(name))}
    first = max(blocks.values(), default=0) + 1 - profile.freeze.layers
    return Sizes(whole, sum(math.prod(tensors[name]) for name, number in blocks.items() if number >= first))


def disk_bytes(found: Sizes, profile: Profile, keep_checkpoints: int) -> float:
    """Room for the checkpoints and the one being written, the result and its copy, and the merge and its GGUFs."""
    weights = 4.0 * (found.learnt if profile.lora is not None else found.base)
    checkpoint = weights + _MOMENTS[profile.optimiser] * found.learnt
    derived = (keep_checkpoints + 1) * checkpoint + 2 * weights + _MERGE * found.base
    return max(derived, profile.needs.disk_gb * 1e9)


def gpu_bytes(found: Sizes, profile: Profile) -> float:
    """Memory of each GPU for weights, gradients and moments. Activations are what ``needs.gpu_memory_gb`` is for."""
    learning = (4 + 4 + _MOMENTS[profile.optimiser]) * found.learnt
    weight = 4.0 if profile.precision == "float32" and profile.method != "qlora" else _WEIGHT[profile.method]
    derived = weight * found.frozen(profile) + learning
    return max(derived, profile.needs.gpu_memory_gb * 1e9)


def host_bytes(found: Sizes, profile: Profile, cpu: bool) -> float:
    """Memory of the machine: on a CPU the base is trained there, in float32 and with float32 moments."""
    derived = 4.0 * found.frozen(profile) + (4 + 4 + 8) * found.learnt if cpu else 0.0
    return max(derived, profile.needs.memory_gb * 1e9)


def host_memory(cgroup: Path = _CGROUP) -> tuple[float, float]:
    """(available now, in total) bytes of memory: of the machine, or of the container where that allows less."""
    machine = psutil.virtual_memory()
    try:
        limit = float((cgroup / "memory.max").read_text())
        used = float((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no version 2 cgroup, or no limit ("max")
        return machine.available, machine.total
    cache = float(stat.get("inactive_file", 0))  # given back as soon as somebody needs it
    return min(machine.available, max(limit - used + cache, 0.0)), min(machine.total, limit)


def _adapted(tensors: Mapping[str, list[int]], profile: Profile) -> dict[str, list[int]]:
    target = profile.lora.target if profile.lora else []
    linear = {name: shape for name, shape in tensors.items() if len(shape) == 2 and not _NO_LINEAR.search(name)}
    if target == "all-linear":
        return linear
    return {name: shape for name, shape in linear.items() if name.removesuffix(".weight").rpartition(".")[2] in target}


def _header(file: Path) -> list[tuple[str, Any]]:
    """The tensors that a safetensors file says it holds: eight bytes of length, then JSON."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        found = json.loads(opened.read(length))
    return [(name, entry) for name, entry in found.items() if name != "__metadata__"]
