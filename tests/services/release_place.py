"""Versions to deploy, of the embedded base's real weights, as bundles with what deploying reads."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from opstune.export.modelfile import CHATML, modelfile
from opstune.serve.deploy import Release
from opstune.settings import DeploySettings, Patience, ServeSettings
from opstune.skills.base import SYSTEM

_ROOT = Path(__file__).parents[2]
BASE = _ROOT / "include" / "models" / "tiny-ops"
SETTINGS = ServeSettings(
    threads=1,
    deploy=DeploySettings(
        agreement=0.75,
        patience=Patience(timeout_seconds=60, attempts=2, backoff_seconds=0, longest_wait_seconds=0),
    ),
)


def write_gguf(out: Path) -> Path:
    """The embedded base as a GGUF, by the writer that the engines' tests have."""
    spec = importlib.util.spec_from_file_location("gguf_writer", _ROOT / "tests/unit/engines/tiny_gguf.py")
    assert spec and spec.loader
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    written: Path = writer.write_gguf(BASE, out)
    return written


def release(gguf: Path, folder: Path, version: str) -> Release:
    """A version of these weights. Each has bytes of its own: what follows the last tensor is nobody's."""
    shipped, adapter = folder / version / "gguf", folder / version / "adapter"
    shipped.mkdir(parents=True)
    adapter.mkdir()
    (shipped / "model.gguf").write_bytes(gguf.read_bytes() + version.encode())
    (shipped / "Modelfile").write_text(modelfile(CHATML, SYSTEM, 2048))
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        (shipped / name).write_bytes((BASE / name).read_bytes())
        (adapter / name).write_bytes((BASE / name).read_bytes())
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 12}))
    return Release("opstune", version, folder / version, "Qwen/Qwen2-7B-Instruct", ("remediation", "log_error"))
