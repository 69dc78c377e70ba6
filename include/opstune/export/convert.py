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
from opstune.export.facts import FILE, Facts
from opstune.settings import DEFAULT_QUANTISATION, ExportSettings

log = logging.getLogger(__name__)

_VALIDATION = "validation.parquet"


def convert(
    folder: Path,
    adapter: Ref,
    base: Path,
    settings: ExportSettings,
    tools: Path,
    system: str,
    dataset: Ref | None = None,
) -> Ref:
    """Merge the adapter into its base and write what ships.

    Files: ``model.gguf`` (quantised), ``Modelfile``, tokenizer, chat template, ``export.json`` (``facts.Facts``, whose
    numbers are the counts), and ``adapter.gguf`` where ``settings.lora`` asks for it. The f16 file is not kept. Seconds
    by step go to the log.

    Args:
        base: the folder of the base model that the adapter was trained on.
        settings: ``quantisation`` none means Q4_K_M, ``num_ctx`` none what the model was made for, up to 8,192.
        tools: where llama.cpp's converter is kept; it is fetched on first use.
        system: the system message that the model was trained with.
        dataset: what the adapter learnt from. Its validation examples choose what an adapter that learnt in 4 bits is
            merged into; without them it is what the adapter saw.

    Raises:
        ExportError: a step failed, or the GGUF would read a chat in other tokens than training did.
        IntegrityError: the adapter changed, or ``base`` is not the one it was trained on.
        ServiceDown: the converter is not there and could not be downloaded.
    """
    # Imported here because `python -m opstune.export.converter` must not find itself imported already.
    from opstune.export.converter import ensure_converter, runtime_version

    training = _training(artifacts.verify(adapter), base)
    nf4 = training["method"] == "qlora"
    chosen_by = dataset if nf4 and settings.merge_rows else None
    quantisation = settings.quantisation or DEFAULT_QUANTISATION
    if settings.lora and training.get("holds", "adapter") != "adapter":
        todo = "Set export.lora to false: the merged model holds everything."
        raise ExportError(f"the method {training['method']} leaves whole weights and no adapter", "export.lora", todo)
    asked = {
        **settings.model_dump(include={"num_ctx", "lora"}),
        "quantisation": quantisation,
        "merge_rows": settings.merge_rows if chosen_by else None,
        "system": system,
        "runtime": runtime_version(),
    }

    def make(out: Path) -> Mapping[str, float]:
        converter = ensure_converter(tools)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as work:
            spec = {
                "base": base,
                "adapter": adapter.path,
                "converter": converter,
                "out": out,
                "work": Path(work),
                "quantisation": quantisation,
                "num_ctx": settings.num_ctx,
                "lora": settings.lora,
                "nf4": nf4,
                "validation": artifacts.verify_file(chosen_by, _VALIDATION) if chosen_by else None,
                "merge_rows": settings.merge_rows,
                "system": system,
                "threads": len(os.sched_getaffinity(0)),
            }
            result = _run(spec, Path(work))
            for file in _tokenizer_files(adapter.path):
                shutil.copy2(file, out / file.name)
        seconds = ", ".join(f"{step} {taken:.1f} s" for step, taken in result.pop("seconds").items())
        facts = Facts(
            **result,
            quantisation=quantisation,
            adapter_sha256=adapter.sha256,
            base_sha256=training["base_sha256"],
            base_bytes=sum(file.stat().st_size for file in base.glob("*.safetensors")),
            lora=settings.lora,
        )
        artifacts.write_text(out / FILE, facts.model_dump_json(indent=1))
        _tell(facts, seconds)
        return facts.counts

    return artifacts.build(folder, "gguf", {"adapter": adapter, "dataset": chosen_by}, asked, make)


def _tell(facts: Facts, seconds: str) -> None:
    sizes = f"{facts.bytes / 1e6:.1f} MB, {facts.size_reduction:.0%} less than in 16 bits"
    log.info("%s: %s; %s, num_ctx %d; %s", facts.quantisation, sizes, facts.family, facts.num_ctx, seconds)
    if choice := facts.choice:
        log.info(
            "Merged into the %s base: the loss over %d validation examples is %.4f into the dequantised one and %.4f "
            "into the original.",
            facts.merged_into, choice.examples, choice.dequantised, choice.original,
        )  # fmt: skip


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
