"""Rows about export: what quantising costs a demo's model in right answers, and what a 4-bit adapter is merged into."""

from __future__ import annotations

import tempfile
from functools import cache, partial
from pathlib import Path

from opstune import settings as configuration
from opstune.artifacts import Ref
from opstune.bench.rows import Measure, Measured, row
from opstune.bench.subject import latest
from opstune.cli.output import console
from opstune.errors import DataError
from opstune.settings import Quantisation

#: Days of history for the 4-bit adapter: some 900 training examples.
_DAYS = 12


@cache
def _demo() -> list[Ref]:
    """Dataset, adapter and evaluation."""
    if (made := latest("dataset", "train", "evaluate")) is None:
        raise DataError("no demo has run here", str(configuration.load().runs_dir), "Run `make demo` first.")
    return made


def _quantised(quantisation: Quantisation) -> Measure:
    """Percent of a demo's test set that the GGUF answers rightly; the baseline is the tuned model before conversion."""

    def measure() -> Measured:
        from opstune import evaluate, export, train
        from opstune.pipeline.engines import llama_cpp
        from opstune.skills.base import SYSTEM

        (dataset, adapter, evaluation), found = _demo(), configuration.load()
        asked = found.export.model_copy(update={"quantisation": quantisation})
        base = train.base_folder(train.load_profile("tiny"))
        with tempfile.TemporaryDirectory(prefix="opstune-bench-exporting-") as folder:
            gguf = export.convert(Path(folder) / "convert", adapter, base, asked, found.tools_dir, SYSTEM)
            engines = {"challenger": partial(llama_cpp, gguf.path / "model.gguf", found)}
            settings = found.evaluate.model_copy(update={"free_decoding_sample": 0})
            ref = evaluate.evaluate(Path(folder) / "evaluate", dataset, engines, settings, {"gguf": gguf})
            read = evaluate.read_evaluation(ref).roles["challenger"]
            right, latency = read.metrics["all"]["correct"], read.latency
        before = evaluation.counts["challenger.all.correct"]
        told = f", p95 {latency.p95:.0f} ms" if latency else ""
        size = f"{gguf.counts['bytes'] / 1e6:.1f} MB, {gguf.counts['size_reduction']:.1%} less than in 16 bits"
        console.print(f"{quantisation}: {right.k} of {right.n} right{told}; {size}")
        return Measured(100 * right.value, "% right", 100 * before, right.n)

    return measure


for _name in ("Q4_K_M", "Q5_K_M", "Q8_0"):
    row(f"export_right_{_name.lower()}")(_quantised(_name))


@row("export_qlora_merge_loss", on_request=True)
def export_qlora_merge_loss() -> Measured:
    """Loss over validation examples (nats a token) of an adapter of the profile ``tiny-qlora``, merged into the base in
    the 4 bits that it saw; the baseline is that of the same adapter merged into the original base.
    """
    from opstune import dataset as datasets
    from opstune import export, pipeline, train
    from opstune.bench.corpus import history
    from opstune.settings import TrainSettings
    from opstune.skills.base import SYSTEM

    loaded = configuration.load()
    profile = train.load_profile("tiny-qlora")
    with tempfile.TemporaryDirectory(prefix="opstune-bench-exporting-") as name:
        folder = Path(name)
        found = history(folder, _DAYS)
        asked = found.settings.dataset.model_copy(update={"skills": loaded.dataset.skills})
        keys = pipeline.keyring(found.settings)
        dataset = datasets.build(
            folder / "dataset", found.examples, folder / "splits.parquet", asked, "full", keyring=keys
        )
        adapter = train.Trainer(folder / "train", dataset, profile, TrainSettings(profile=profile.name)).run()
        base = train.base_folder(profile)
        settings = loaded.export.filled(profile.quantisation, profile.num_ctx)
        gguf = export.convert(folder / "convert", adapter, base, settings, loaded.tools_dir, SYSTEM, dataset)
        facts = export.read_facts(gguf)
    if facts.choice is None:
        raise DataError("both ways of merging were not tried", "export.merge_rows", "Set it to a number above 0.")
    console.print(f"merged into the {facts.merged_into} base")
    return Measured(facts.choice.dequantised, "nats a token", facts.choice.original, facts.choice.examples)
