"""Refs between stages, whole-or-absent folders, and the proof of what made them.

A stage writes into a temporary folder beside its place and renames it when every file is there, so
a folder with a ``manifest.json`` is complete. The manifest holds the sha256 of each file and what
made them. A ref carries one sha256 over the names and hashes of all files: one changed byte is found,
and the same content has the same ref whenever and wherever it was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pydantic import BaseModel, ConfigDict, Field

from opstune.errors import IntegrityError

MANIFEST = "manifest.json"
#: A signature over the manifest's bytes, where a stage has one (``security.signing``).
SIGNATURE = "manifest.sig"
_PROOF = {MANIFEST, SIGNATURE}
_AGAIN = "Restore the file, or clear the stage that wrote it and run it again."
_MODEL_FILES = ("*.safetensors", "config.json", "tokenizer*.json", "*.jinja", "vocab.json", "merges.txt")
_TRACED_PACKAGES = (
    "torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "llama-cpp-python", "pyarrow",
)  # fmt: skip


class Ref(BaseModel):
    """Points at one stage's finished folder. Small enough for XCom; the data stays where it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    uri: str
    sha256: str
    counts: dict[str, float] = Field(default_factory=dict)

    @property
    def path(self) -> Path:
        return Path(unquote(urlparse(self.uri).path))

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text())
        return manifest


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """The sha256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed onto it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text)


def build(
    folder: Path,
    kind: str,
    inputs: Mapping[str, Ref | None],
    settings: Mapping[str, Any],
    make: Callable[[Path], Mapping[str, float]],
) -> Ref:
    """Run ``make`` into a temporary folder and put it at ``folder``, or return what stands there.

    ``make`` gets the folder to fill and returns the counts of the ref. A folder made before from the
    same inputs (by sha256) and the same settings is returned as it is, after its files were checked.
    """
    hashes = {name: ref.sha256 if ref else None for name, ref in inputs.items()}
    asked = fingerprint({"kind": kind, "inputs": hashes, "settings": settings})
    existing = find(folder)
    if existing and existing.manifest["asked"] == asked:
        return verify(existing)
    started = time.monotonic()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        counts = dict(make(partial))
        seal(
            partial,
            kind,
            counts,
            {
                "asked": asked,
                "inputs": {name: ref.model_dump() if ref else None for name, ref in inputs.items()},
                "settings": dict(settings),
                "seconds": round(time.monotonic() - started, 3),
            },
        )
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_ref(folder)


def seal(folder: Path, kind: str, counts: Mapping[str, float], made: Mapping[str, Any]) -> None:
    """Write the manifest of a folder: every file's sha256 and what made them."""
    files = {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    proof = {"git_revision": git_revision(), "packages": packages()}
    manifest = {"kind": kind, "sha256": content_hash(files), "counts": dict(counts), "files": files, **made, **proof}
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, default=str))


def content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One sha256 over every file's name and sha256."""
    return fingerprint({name: entry["sha256"] for name, entry in files.items()})


def model_files(folder: Path) -> list[Path]:
    """A model's weights, configuration and tokenizer: what decides how it reads and answers."""
    return sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern)})


def model_sha256(folder: Path) -> str:
    """One sha256 over a model's files."""
    return content_hash({path.name: {"sha256": sha256_file(path)} for path in model_files(folder)})


def find(folder: Path) -> Ref | None:
    """The ref of a finished folder, or none."""
    return open_ref(folder) if (folder / MANIFEST).is_file() else None


def open_ref(folder: Path) -> Ref:
    """The ref of a finished folder.

    Raises:
        IntegrityError: there is no manifest, or it cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        return Ref(
            kind=manifest["kind"], uri=folder.resolve().as_uri(), sha256=manifest["sha256"], counts=manifest["counts"]
        )
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(
            f"{path} is missing or unreadable", str(folder), "Run the stage that makes this folder again."
        ) from error


def verify(ref: Ref) -> Ref:
    """Check every file of a ref against its manifest, and the whole against the ref.

    Raises:
        IntegrityError: names the first file that changed, is missing, or was added.
    """
    for name in _files_of(ref):
        verify_file(ref, name)
    present = {str(path.relative_to(ref.path)) for path in ref.path.rglob("*") if path.is_file()} - _PROOF
    for name in sorted(present - set(_files_of(ref))):
        raise IntegrityError(f"{ref.path / name} was added after the {ref.kind} was sealed", ref.kind, "Remove it.")
    return ref


def verify_file(ref: Ref, name: str) -> Path:
    """Check one file of a ref, where the others were left behind, and return its path.

    Raises:
        IntegrityError: it changed or is missing.
    """
    path = ref.path / name
    if not path.is_file():
        raise IntegrityError(f"{path} is missing", ref.kind, _AGAIN)
    if sha256_file(path) != _files_of(ref)[name]["sha256"]:
        raise IntegrityError(f"{path} changed after it was written", ref.kind, _AGAIN)
    return path


def _files_of(ref: Ref) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = open_ref(ref.path).manifest["files"]
    if content_hash(files) != ref.sha256:
        raise IntegrityError(
            f"{ref.path / MANIFEST} lists other files than the {ref.kind} was made with", ref.kind, _AGAIN
        )
    return files


@cache
def git_revision() -> str:
    """The checked-out revision, ``+dirty`` when files differ, ``unknown`` outside a checkout."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty=+dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@cache
def packages() -> dict[str, str]:
    """Versions of the packages that decide what a stage writes."""
    found = {}
    for name in _TRACED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
