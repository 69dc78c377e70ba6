"""A run as small as it can be: signed folders, each made from the one before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.security import signing

Refs = dict[str, Ref]
MakeRun = Callable[..., Refs]


def run_maker(runs: Path, keys: Path) -> MakeRun:
    """Makes runs under ``runs``; ``say`` tells one run's bytes from another's."""

    def make(
        run_id: str, *, base: str = "b" * 64, verdict: str = "promote", measured: str = "gguf", say: str = ""
    ) -> Refs:
        say = say or run_id
        refs: Refs = {}

        def stage(name: str, kind: str, inputs: list[str], files: dict[str, str]) -> None:
            def fill(out: Path) -> dict[str, float]:
                for file, content in files.items():
                    (out / file).write_text(content)
                return {"files": len(files)}

            made_from = {key: refs[key] for key in inputs}
            refs[name] = artifacts.build(runs / run_id / name, kind, made_from, {"seed": 7, "name": say}, fill)
            signing.sign(refs[name].path, keys)

        training = json.dumps({"base": "tiny-ops", "base_sha256": base, "curve": [{"step": 1, "loss": 2.0}]})
        dataset = {"dataset.json": f'{{"train_ids": ["{say}"]}}', "card.html": say, "train.parquet": ""}
        stage("dataset", "dataset", [], dataset)
        stage("adapter", "adapter", ["dataset"], {"adapter_model.safetensors": say, "training.json": training})
        gguf = {"model.gguf": say, "Modelfile": "FROM", "chat_template.jinja": "{{ }}", "tokenizer_config.json": "{}"}
        stage("gguf", "gguf", ["adapter"], gguf)
        stage("evaluation", "evaluation", ["adapter", "dataset"], {"evaluation.json": "{}"})
        stage("verdict", "verdict", ["evaluation", "dataset"], judged("promote", say))
        stage("shipped_evaluation", "evaluation", [measured, "dataset"], {"evaluation.json": "{}", "n": "1"})
        stage("shipped_verdict", "verdict", ["shipped_evaluation", "dataset"], {**judged(verdict, say), "n": "1"})
        return refs

    return make


def judged(verdict: str, say: str) -> dict[str, str]:
    share = 0.9 + len(say) / 1000
    line = {"skill": "all", "metric": "correct", "reference": "absolute", "status": "passed", "value": share}
    return {"verdict.json": json.dumps({"verdict": verdict, "lines": [line]}), "report.html": say}
