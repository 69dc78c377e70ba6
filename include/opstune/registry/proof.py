"""The only proof that lets a version near production: verdicts in its bundle, signed here, that say promote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opstune import artifacts
from opstune.errors import InputError, IntegrityError
from opstune.registry import bundle
from opstune.registry.bundle import Version
from opstune.security import signing

#: What a verdict is about, what it was made from, and itself.
_JUDGED = ("gguf", "evaluation", "verdict")


def check(version: Version, keys: Path) -> None:
    """Every verdict of a bundle says promote, and one of them is about the GGUF that stands in it.

    Raises:
        InputError: a verdict says something else, or none is about the GGUF.
        IntegrityError: as ``attest``.
    """
    attest(version, keys)
    for name in version.of_kind("verdict"):
        if (told := read(version, name)["verdict"]) != "promote":
            todo = f"Its report says why: {version.folder / name / 'report.html'}."
            raise InputError(f"the verdict on {version.version} is {told}", name, todo)
    gguf = version.stages["gguf"].sha256
    measured = {
        version.stages[name].sha256
        for name in version.of_kind("evaluation")
        if gguf in bundle.inputs_of(version.folder / name)
    }
    if not any(measured & bundle.inputs_of(version.folder / name) for name in version.of_kind("verdict")):
        todo = "Evaluate the GGUF, gate it, and register the run again."
        raise InputError(f"no verdict of {version.version} is about the GGUF that ships", "registry", todo)


def attest(version: Version, keys: Path) -> None:
    """What was judged, and how, was signed here: not by whoever could only sign a bundle around it.

    Raises:
        IntegrityError: the GGUF, an evaluation or a verdict was not signed by this home's key, or is not the one that
            the lineage names; or a verdict changed. It is named.
    """
    for kind in _JUDGED:
        for name in version.of_kind(kind):
            ref = artifacts.open_ref(version.folder / name)
            signing.attest(ref, keys)
            if ref.sha256 != version.stages[name].sha256:
                what = f"{ref.path} is not the {name} that {version.folder / bundle.FACTS} names"
                raise IntegrityError(what, "registry", "Restore the bundle from a backup.")
            if kind == "verdict":
                artifacts.verify(ref)


def decision(version: Version) -> str:
    """What the newest verdict of a bundle says, ``none`` where there is none."""
    names = version.of_kind("verdict")
    return str(read(version, names[-1])["verdict"]) if names else "none"


def read(version: Version, stage: str) -> dict[str, Any]:
    """One verdict of a bundle, as the gate wrote it."""
    told: dict[str, Any] = json.loads((version.folder / stage / "verdict.json").read_text())
    return told
