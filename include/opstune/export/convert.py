"""The convert stage: one adapter becomes one sealed folder with the GGUF, its Modelfile and its tokenizer."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import opstune
from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import ExportError, IntegrityError
from opstune.settings import ExportSettings

log = logging.getLogger(__name__)


def convert(folder: Path, adapter: Ref, base: Path, settings: ExportSettings, tools: Path, system: str) -> Ref:
    """Merge the adapter into its base and write what ships.

    Files: ``model.gguf`` (quantised), ``Modelfile``, tokenizer and chat template. Counts: ``bytes``
    and ``f16_bytes``; the f16 file is not kept. Seconds by step go to the log.

    Args:
        base: the folder of the base model that the adapter was trained on.
        tools: where llama.cpp's converter is kept; it is fetched on first use.
        system: the system message that the model was trained with.

    Raises:
        ExportError: a step failed, or the GGUF would read a chat in other tokens than training did.
        IntegrityError: the adapter changed, or ``base`` is not the one it was trained on.
        ServiceDown: the converter is not there and could not be downloaded.
    """
    # Imported here because `python -m opstune.export.converter` must not find itself imported already.
    from opstune.export.converter import ensure_converter, runtime_version

    training = _training(artifacts.verify(adapter), base)
    asked = {"quantisation": settings.quantisation, "system": system, "runtime": runtime_version()}

    def make(out: Path) -> Mapping[str, float]:
        converter = ensure_converter(tools)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as work:
            spec = {
                "base": base,
                "adapter": adapter.path,
                "converter": converter,
                "out": out,
                "work": Path(work),
                "quantisation": settings.quantisation,
                "nf4": training["method"] == "qlora",
                "system": system,
                "threads": len(os.sched_getaffinity(0)),
            }
            result = _run(spec, Path(work))
            for file in _tokenizer_files(adapter.path):
                shutil.copy2(file, out / file.name)
        sizes = {name: result[name] for name in ("bytes", "f16_bytes")}
        seconds = ", ".join(f"{step} {taken:.1f} s" for step, taken in result["seconds"].items())
        log.info(
            "%s: %.1f MB of %.1f MB f16; %s", settings.quantisation, *(size / 1e6 for size in sizes.values()), seconds
        )
        return sizes

    return artifacts.build(folder, "gguf", {"adapter": adapter}, asked, make)


def _training(adapter: Ref, base: Path) -> dict[str, Any]:
    """What training wrote about itself, after the base was seen to be the one it names."""
    training: dict[str, Any] = json.loads((adapter.path / "training.json").read_text())
    if artifacts.model_sha256(base) != training["base_sha256"]:
        todo = "Restore the base model, or train again on this one."
        raise IntegrityError(f"{base} is not the base that the adapter was trained on", adapter.kind, todo)
    return training


def _tokenizer_files(adapter: Path) -> list[Path]:
    patterns = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.jinja")
    return sorted({file for pattern in patterns for file in adapter.glob(pattern)})


def _run(spec: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Run the export process to its end; its noise goes to the log only where it failed."""
    file = work / "spec.json"
    file.write_text(json.dumps(spec, default=str))
    command = [sys.executable, "-m", "opstune.export.child", str(file)]
    output = work / "output.log"
    with output.open("w") as told_to:
        ended = subprocess.run(command, stdout=told_to, stderr=subprocess.STDOUT, env=_environment(), check=False)
    told = output.read_text(errors="replace").strip().splitlines()
    if (failed := work / "error.json").is_file():
        raise ExportError(*json.loads(failed.read_text()))
    if code := ended.returncode:
        log.error("export process:\n%s", "\n".join(told[-40:]))
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        last = told[-1] if told else "no word"
        raise ExportError(f"the export process {how}: {last}", "convert", "Its last lines are in the log above.")
    result: dict[str, Any] = json.loads((work / "result.json").read_text())
    return result


def _environment() -> dict[str, str]:
    """Offline, and without bytecode files, which would count as added to the sealed converter."""
    library = str(Path(opstune.__file__).parents[1])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
