"""From an adapter to the champion: measured, judged, converted, measured again as it ships, registered, deployed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from opstune import evaluate as evaluating
from opstune import export, train
from opstune.artifacts import Ref
from opstune.engines.base import Engine
from opstune.errors import EvaluationError, ExportError
from opstune.evaluate import Verdict
from opstune.pipeline import attacking
from opstune.pipeline.deploying import deploy_to
from opstune.pipeline.engines import hugging_face, shipped
from opstune.pipeline.run import Run, refuse_foreign, signed
from opstune.registry import Version
from opstune.settings import config_dir
from opstune.skills.base import SYSTEM
from opstune.train.backends.openai import model_of

log = logging.getLogger(__name__)


def evaluate(run: Run, dataset: Ref, adapter: Ref) -> Ref:
    """Base, champion and challenger on the frozen test set, decoded as production decodes.

    Raises:
        EvaluationError: the challenger stands at a provider.
    """
    refuse_foreign(run, dataset, adapter)
    engines = _engines(run, adapter)
    inputs = {"adapter": adapter}
    ref = signed(run, "evaluate", evaluating.evaluate, dataset, engines, run.settings.evaluate, inputs)
    _track_evaluation(run, ref, prefix="tested")
    return ref


def red_team(run: Run, dataset: Ref, adapter: Ref) -> Ref:
    """The models that were evaluated, under attack.

    Raises:
        EvaluationError: the challenger stands at a provider.
    """
    refuse_foreign(run, dataset, adapter)
    return attacking.red_team(run, "red_team", dataset, {"adapter": adapter}, _engines(run, adapter))


def _engines(run: Run, adapter: Ref) -> dict[str, Callable[[], Engine]]:
    """What opens the base, the champion where there is one, and the challenger.

    Raises:
        EvaluationError: the challenger stands at a provider.
    """
    settings = run.settings
    if model := model_of(adapter.path):
        what = f"the model {model} stands at a provider, and opstune cannot measure it there yet"
        todo = "It is trained and kept. Nothing was converted, registered or promoted, and the champion is as before."
        raise EvaluationError(what, str(adapter.path), todo)
    profile = train.load_profile(settings.train.profile)
    base, champion = train.base_folder(profile), run.champion
    # A base without a chat template of its own is asked in the one that the challenger learnt.
    chats = adapter.path if profile.chat_template else None
    adapters = {"base": None, "champion": champion.adapter if champion else None, "challenger": adapter.path}
    return {
        role: partial(hugging_face, base, folder, settings, None if folder else chats)
        for role, folder in adapters.items()
        if folder or role == "base"
    }


def gate(run: Run, dataset: Ref, evaluation: Ref, attacked: Ref | None = None) -> Ref:
    """Hold the challenger against gates.yaml; writes the verdict and the report.

    ``attacked`` is the red team's findings; what it and the test set show as newly broken is asked again from now on.
    """
    refuse_foreign(run, dataset, evaluation, *([attacked] if attacked else []))
    gates = config_dir() / "gates.yaml"
    ref = signed(run, "gate", evaluating.gate, evaluation, gates, dataset=dataset, red_team=attacked)
    if attacked:
        attacking.remember_broken(run, dataset, [evaluation], [attacked])
    return _told(run, ref)


def convert(run: Run, adapter: Ref) -> Ref:
    """Merge the adapter and write the quantised GGUF that ships.

    Raises:
        ExportError: its weights stand at a provider.
    """
    settings = run.settings
    refuse_foreign(run, adapter)
    if model := model_of(adapter.path):
        what = f"the model {model} stands at a provider: there are no weights to convert"
        raise ExportError(what, str(adapter.path), "Ask it there, or train a profile that trains here.")
    profile = train.load_profile(settings.train.profile)
    base, asked = train.base_folder(profile), settings.export.filled(profile.quantisation, profile.num_ctx)
    dataset = _learnt_from(run, adapter) if profile.method == "qlora" else None
    return signed(run, "convert", export.convert, adapter, base, asked, settings.tools_dir, SYSTEM, dataset)


def evaluate_shipped(run: Run, dataset: Ref, gguf: Ref) -> Ref:
    """The same test set through what serves it: llama.cpp here, or the server that evaluate.endpoint names."""
    settings = run.settings
    refuse_foreign(run, dataset, gguf)
    engines = _engine_shipped(run, gguf)
    inputs = {"gguf": gguf}
    ref = signed(run, "evaluate_shipped", evaluating.evaluate, dataset, engines, settings.evaluate, inputs)
    _track_evaluation(run, ref, prefix="shipped")
    return ref


def red_team_shipped(run: Run, dataset: Ref, gguf: Ref) -> Ref:
    """The same attacks on the file that ships, through what serves it: fewer bits may give way where more did not."""
    refuse_foreign(run, dataset, gguf)
    return attacking.red_team(run, "red_team_shipped", dataset, {"gguf": gguf}, _engine_shipped(run, gguf))


def _engine_shipped(run: Run, gguf: Ref) -> dict[str, Callable[[], Engine]]:
    return {"challenger": partial(shipped, gguf.path / "model.gguf", run.settings)}


def gate_shipped(run: Run, dataset: Ref, evaluation: Ref, attacked: Ref, tested: Ref, tested_attacked: Ref) -> Ref:
    """The gate again, on the file that ships; it must also agree with what was tested.

    ``evaluation`` and ``attacked`` are of that file, ``tested`` and ``tested_attacked`` of what was there before
    conversion.
    """
    refuse_foreign(run, dataset, evaluation, attacked, tested, tested_attacked)
    ref = signed(
        run,
        "gate_shipped",
        evaluating.gate,
        evaluation,
        config_dir() / "gates.yaml",
        dataset=dataset,
        tested=tested,
        parity_points=run.settings.export.parity_points,
        red_team=attacked,
        tested_red_team=tested_attacked,
    )
    attacking.remember_broken(run, dataset, [tested, evaluation], [tested_attacked, attacked])
    return _told(run, ref)


def register(run: Run, refs: Mapping[str, Ref]) -> str:
    """Bundle, sign and register what was tested; returns the semantic version.

    The red team's questions stay behind, like the dataset's examples: its findings stand in the verdict's report.
    """
    refs = {name: ref for name, ref in refs.items() if ref.kind != "red_team"}
    refuse_foreign(run, *refs.values())
    parent = run.parent.version if run.parent else None
    with run.tracked():
        return run.registry.register(refs, mode=run.mode, parent=parent, run_id=run.id).version


def deploy(run: Run, version: str) -> Version:
    """Let a version answer where ``serve.deploy.to`` says, as the champion; the one before becomes ``previous``."""
    with run.tracked() as tracker:
        place, why = run.settings.serve.deploy.to, f"run {run.id} passed its gate"
        deployed = deploy_to(place, version, run.settings, who="retrain", why=why)
        tracker.tags({"verdict": "promote", "version": version, "deployed_to": place})
        tracker.finish()
    return deployed.version


def read_verdict(ref: Ref) -> Verdict:
    return evaluating.read_verdict(ref)


def _learnt_from(run: Run, adapter: Ref) -> Ref | None:
    """The dataset of an adapter, or none where it no longer stands here."""
    dataset = Ref.model_validate(adapter.manifest["inputs"]["dataset"])
    if not dataset.path.is_dir():
        log.warning("The dataset of the adapter is gone: it is merged into the base it saw, unmeasured.")
        return None
    refuse_foreign(run, dataset)
    return dataset


def _told(run: Run, verdict: Ref) -> Ref:
    """The report goes to MLflow with every verdict; one that ends the retrain ends its MLflow run too."""
    found = read_verdict(verdict)
    with run.tracked() as tracker:
        tracker.artifact(verdict.path)
        tracker.tags({"report": f"{verdict.path.name}/report.html"})
        if found.verdict != "promote":
            tracker.tags({"verdict": found.verdict, "verdict.why": found.sentence})
            tracker.finish()
    return verdict


def _track_evaluation(run: Run, evaluation: Ref, prefix: str) -> None:
    with run.tracked() as tracker:
        tracker.metrics({f"{prefix}/{name}": value for name, value in evaluation.counts.items()})
