"""llama.cpp's own converter, which ships only in the llama-cpp-python source package.

python -m opstune.export.converter --tools DIR [--sdist FILE]   fetch and unpack it once, for the installed runtime
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import logging
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import ExportError, IntegrityError, ServiceDown

log = logging.getLogger(__name__)

PACKAGE = "llama-cpp-python"
#: The converter is code that runs here: where the runtime's version is known, so is its source package.
SDIST_SHA256 = {"0.3.36": "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"}
_INSIDE = "vendor/llama.cpp/"
_NEEDED = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion/", "gguf-py/gguf/", "LICENSE")


def ensure_converter(tools: Path, sdist: Path | None = None) -> Path:
    """The folder with ``convert_hf_to_gguf.py``, ``conversion/`` and ``gguf-py/``, of the runtime's version.

    What was unpacked before is checked and returned, if it is whole. Otherwise the source package is taken from
    ``sdist``, from ``tools``, or from the package index.

    Raises:
        ExportError: llama-cpp-python is not installed, or the package holds no converter.
        IntegrityError: the source package, or a file unpacked before, is not what it was.
        ServiceDown: the package index gave no source package.
    """
    version = runtime_version()
    folder = tools / f"llama.cpp-{version}"
    tools.mkdir(parents=True, exist_ok=True)
    with FileLock(tools / ".converter.lock"):
        if (found := artifacts.find(folder)) and _is_whole(found):
            return artifacts.verify(found).path
        with tempfile.TemporaryDirectory(dir=tools) as scratch:
            source = sdist or _beside(tools, version) or _download(version, Path(scratch))
            _check(source, version)
            artifacts.build(
                folder, "converter", {}, {"version": version, "files": _NEEDED}, lambda out: _unpack(source, out)
            )
    log.info("unpacked llama.cpp's converter %s", version)
    return folder


def _is_whole(found: Ref) -> bool:
    """Whether everything that is needed today was unpacked then."""
    return all(any(name.startswith(needed) for name in found.manifest["files"]) for needed in _NEEDED)


def runtime_version() -> str:
    """The version of the installed llama.cpp runtime; converter and runtime must be of one version.

    Raises:
        ExportError: it is not installed.
    """
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ExportError(f"{PACKAGE} is not installed", "export", "Run `make setup`.") from error


def _beside(tools: Path, version: str) -> Path | None:
    return next(iter(tools.glob(f"llama_cpp_python-{version}.tar.gz")), None)


def _download(version: str, scratch: Path) -> Path:
    """The source package through pip. Its build tools come as wheels: only this one package is wanted as source."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    asked = subprocess.run(
        [*command, "--dest", str(scratch), f"{PACKAGE}=={version}"], capture_output=True, text=True, check=False
    )
    found = _beside(scratch, version)
    if asked.returncode or found is None:
        reason = (asked.stderr.strip().splitlines() or ["no file"])[-1]
        todo = f"Put llama_cpp_python-{version}.tar.gz into the tools folder, or try again."
        raise ServiceDown(f"pip could not download the source package of {PACKAGE} {version}: {reason}", "pip", todo)
    return found


def _check(sdist: Path, version: str) -> None:
    expected = SDIST_SHA256.get(version)
    with sdist.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and found != expected:
        todo = "Delete it; it will be downloaded again."
        raise IntegrityError(f"{sdist.name} is not the published source package of {version}", str(sdist.parent), todo)


def _unpack(sdist: Path, out: Path) -> Mapping[str, float]:
    count = 0
    with tarfile.open(sdist, "r|gz") as archive:
        for member in archive:
            inside = member.name.partition("/")[2]
            name = inside.removeprefix(_INSIDE)
            if member.isfile() and inside.startswith(_INSIDE) and name.startswith(_NEEDED):
                archive.extract(member.replace(name=name, deep=False), out, filter="data")
                count += 1
    if not (out / "convert_hf_to_gguf.py").is_file() or not (out / "gguf-py" / "gguf").is_dir():
        raise ExportError(f"{sdist.name} holds no converter", str(sdist.parent), f"Use the sdist of {PACKAGE}.")
    return {"files": count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, required=True, help="where it is kept, usually OPSTUNE_HOME/tools")
    parser.add_argument("--sdist", type=Path, help="a source package that is already here")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("converter: %s", ensure_converter(asked.tools, asked.sdist))


if __name__ == "__main__":
    main()
