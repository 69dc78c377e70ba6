"""Two versions side by side: what made them, how they were set, what was measured, how large they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from opstune import artifacts
from opstune.registry import proof
from opstune.registry.bundle import Version
from opstune.tracking import flat

_CHALLENGER = "challenger."
#: Settings that are a hash, or name the models that were measured by their hashes.
_INPUT = re.compile(r"\.engines\.| [0-9a-f]{64}$")


class Change(BaseModel):
    """One thing that differs; ``None`` where a version has no such thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    left: str | float | None
    right: str | float | None


class Difference(BaseModel):
    """What differs between two versions. ``metrics`` are shares or as the evaluation has them, ``sizes`` bytes.

    ``verdicts`` holds the decision, and every gate line that stands otherwise (passed, failed, ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: str
    right: str
    lineage: list[Change]
    settings: list[Change]
    metrics: list[Change]
    sizes: list[Change]
    verdicts: list[Change]


def compare(left: Version, right: Version) -> Difference:
    """What differs between two versions that were verified."""
    found = {
        name: _changes(read(left), read(right))
        for name, read in (
            ("lineage", _lineage),
            ("settings", _settings),
            ("metrics", _metrics),
            ("sizes", sizes),
            ("verdicts", _verdicts),
        )
    }
    return Difference(left=left.version, right=right.version, **found)


def sizes(version: Version) -> dict[str, float]:
    """Bytes of each part of a bundle, and of the GGUF itself."""
    parts = {
        name: float(sum(path.stat().st_size for path in (version.folder / name).rglob("*") if path.is_file()))
        for name in version.stages
        if (version.folder / name).is_dir()
    }
    return {**parts, "model.gguf": float(version.gguf.stat().st_size), "all": sum(parts.values())}


def _lineage(version: Version) -> dict[str, Any]:
    return {
        "run": version.run_id,
        "mode": version.mode,
        "parent": version.parent,
        "base": version.base.name,
        "base sha256": version.base.sha256,
        "revision": version.git_revision,
        **{f"{name} sha256": stage.sha256 for name, stage in version.stages.items()},
        **{f"package {name}": number for name, number in version.packages.items()},
    }


def _settings(version: Version) -> dict[str, Any]:
    """Settings of the stages, and how many examples of each kind there were; what names an input is lineage."""
    found: dict[str, Any] = {f"dataset.{name}": count for name, count in version.stages["dataset"].counts.items()}
    for name in version.stages:
        if artifacts.find(version.folder / name):
            found.update(flat(artifacts.open_ref(version.folder / name).manifest.get("settings", {}), name))
    return {name: value for name, value in found.items() if not _INPUT.search(f"{name} {value}")}


def _metrics(version: Version) -> dict[str, Any]:
    """Of the model itself; base and champion stand beside it in the report."""
    return {
        f"{stage}.{name.removeprefix(_CHALLENGER)}": value
        for stage in version.of_kind("evaluation")
        for name, value in version.stages[stage].counts.items()
        if name.startswith(_CHALLENGER)
    }


def _verdicts(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in version.of_kind("verdict"):
        told = proof.read(version, stage)
        found[stage] = told["verdict"]
        for line in told["lines"]:
            name = ".".join(str(line[part]) for part in ("skill", "metric", "reference"))
            found[f"{stage}.{name}"] = line["status"]
    return found


def _changes(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Change]:
    names = [*left, *(name for name in right if name not in left)]
    pairs = [(name, _plain(left.get(name)), _plain(right.get(name))) for name in names]
    return [Change(name=name, left=one, right=other) for name, one, other in pairs if one != other]


def _plain(value: Any) -> str | float | None:
    return value if value is None or isinstance(value, int | float) else str(value)
