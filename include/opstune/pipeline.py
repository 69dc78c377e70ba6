"""The whole cycle in plain Python: each stage once, from refs to a ref, and the retrain that chains them.

Airflow runs the same functions, a task each; ``retrain`` runs them in this process. Here a stage gets
its folder, its own settings and its MLflow run; what it does is its room's business. What a stage made is
signed here, and what a stage is given must be signed: files that somebody changed go no further.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec

from opstune import annotate as annotating
from opstune import collect as collecting
from opstune import dataset as datasets
from opstune import evaluate as evaluating
from opstune import export, tracking, train
from opstune.annotate import Progress, PullReport, PushReport, Scrub
from opstune.artifacts import Ref, write_text
from opstune.artifacts import find as find_ref
from opstune.collect import SourceReport
from opstune.engines.base import Case, Engine
from opstune.errors import ConfigError, EvaluationError, ExportError, OpstuneError
from opstune.evaluate import Verdict
from opstune.examples import Example
from opstune.registry import Registry, Version
from opstune.security import signing
from opstune.security.keys import Keyring
from opstune.settings import Mode, Settings, config_dir
from opstune.skills.base import SYSTEM
from opstune.store import ExampleStore
from opstune.train.backends.openai import CONNECTION as OPENAI
from opstune.train.backends.openai import JobRuns, model_of
from opstune.train.hosted import AtProvider

log = logging.getLogger(__name__)

LABEL_STUDIO = "opstune_label_studio"
#: MLflow hears of a training this often while it runs; a shorter one is told when it ends.
_LIVE_SECONDS = 30.0
NO_LABEL_STUDIO = f"there is no connection {LABEL_STUDIO}: annotation is off"

P = ParamSpec("P")


@dataclass(frozen=True)
class Run:
    """One retrain: all its files stand under ``folder``, a folder a stage."""

    id: str
    mode: Mode
    settings: Settings
    #: One stage by hand, which no other follows: MLflow's run is finished when it ends.
    alone: bool = False

    @property
    def folder(self) -> Path:
        return self.settings.runs_dir / self.id

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.tracking_uri, self.settings.registry, self.settings.home)

    @property
    def champion(self) -> Version | None:
        """The champion as it was when the run began: what must be beaten. A run never competes with its own model."""
        settled = self.folder / "champion.json"
        if settled.is_file():
            version = json.loads(settled.read_text())
            return self.registry.show(version) if version else None
        found = self.registry.champion()
        write_text(settled, json.dumps(found.version if found else None))
        return found

    @property
    def parent(self) -> Version | None:
        """What an incremental retrain starts from: the champion. A full one starts from the base."""
        return self.champion if self.mode == "incremental" else None

    def tracked(self, live: bool = False) -> AbstractContextManager[tracking.Tracker]:
        """One stage as the retrain's MLflow run sees it; a ``live`` one is told while it runs."""
        place = tracking.Place(
            self.settings.tracking_uri, self.settings.registry.experiment, self.settings.home / "tracking"
        )
        return tracking.run(place, self.id, last=self.alone, live_seconds=_LIVE_SECONDS if live else None)


@dataclass(frozen=True)
class Outcome:
    """How a retrain ended: the verdict that decided, and the version when there is one."""

    verdict: Verdict
    version: str | None
    refs: Mapping[str, Ref]


def retrain(run: Run) -> Outcome:
    """One retrain from collection to the champion's alias, or to the verdict that stopped it."""
    refs = {"examples": snapshot(run, collect_all(run.settings))}
    refs["dataset"] = dataset(run, refs["examples"])
    refs["adapter"] = run_training(run, refs["dataset"])
    refs["evaluation"] = evaluate(run, refs["dataset"], refs["adapter"])
    refs["verdict"] = gate(run, refs["dataset"], refs["evaluation"])
    if (verdict := read_verdict(refs["verdict"])).verdict != "promote":
        return Outcome(verdict, None, refs)
    refs["gguf"] = convert(run, refs["adapter"])
    refs["shipped_evaluation"] = evaluate_shipped(run, refs["dataset"], refs["gguf"])
    refs["shipped_verdict"] = gate_shipped(run, refs["dataset"], refs["shipped_evaluation"], refs["evaluation"])
    if (verdict := read_verdict(refs["shipped_verdict"])).verdict != "promote":
        return Outcome(verdict, None, refs)
    version = register(run, refs)
    deploy(run, version)
    return Outcome(verdict, version, refs)


def collect_source(source: str, settings: Settings, since: datetime | None = None) -> SourceReport:
    """Bring one source's history since its watermark (or ``since``) into the example store."""
    return collecting.pull(
        source, settings.examples_dir, settings.collect, settings.connection, home=settings.home, since=since
    )


def collect_all(settings: Settings) -> list[SourceReport]:
    """Every source, one after the other; one that fails is told in its report and does not hold up the others."""
    reports = []
    for source in collecting.source_names():
        try:
            reports.append(collect_source(source, settings))
        except OpstuneError as error:
            log.error("%s: %s", source, error)
            reports.append(SourceReport(source=source, problem=str(error)))
    return reports


def push_annotation(project: str, settings: Settings) -> PushReport:
    """Ask people in Label Studio about the examples of one project that need them; they see no secrets."""
    connection = settings.connection(LABEL_STUDIO)
    if connection is None:
        return PushReport(project=project, off=NO_LABEL_STUDIO)
    skill, scrub = annotating.skill_of(project), _scrub(settings)
    examples = ExampleStore(settings.examples_dir, keyring(settings)).read(skills=[skill])
    # Asked about what it never learnt it would invent.
    model = _champion(settings) if skill in settings.dataset.skills else None
    return annotating.push(project, examples, connection, settings.annotate, settings.annotations_dir, scrub, model)


def pull_annotation(project: str, settings: Settings) -> PullReport:
    """Bring what people have decided in one project into the example store."""
    connection = settings.connection(LABEL_STUDIO)
    if connection is None:
        return PullReport(project=project, off=NO_LABEL_STUDIO)
    store = ExampleStore(settings.examples_dir, keyring(settings))
    return annotating.pull(project, store, connection, settings.annotate, settings.annotations_dir, _scrub(settings))


def annotation_progress(settings: Settings) -> list[Progress]:
    """How many tasks of every project are done; nothing without Label Studio."""
    connection = settings.connection(LABEL_STUDIO)
    names = annotating.project_names()
    return annotating.progress(names, connection, settings.annotate.patience) if connection else []


def snapshot(run: Run, reports: Sequence[SourceReport]) -> Ref:
    """Freeze what the store holds now: this retrain sees these examples and no later ones.

    Raises:
        DataError: a connected source was last read longer ago than collect.max_staleness_days.
    """
    settings = run.settings
    ages = collecting.ages(collecting.source_names(), settings.examples_dir, reports, datetime.now(UTC))
    for age in ages:
        log.info("%s", age)
    collecting.refuse_stale(ages, settings.collect.max_staleness_days)
    return _signed(run, "collect", collecting.snapshot, settings.examples_dir, list(reports), keyring=keyring(settings))


def dataset(run: Run, examples: Ref) -> Ref:
    """Validate, scrub, deduplicate, split; an incremental run trains on what its parent has not seen.

    Whatever the mode, the champion must not have been trained on the test set, and the card says what
    changed since its dataset.
    """
    settings, parent, champion = run.settings, run.parent, run.champion
    _refuse_foreign(run, examples)
    ref = _signed(
        run,
        "dataset",
        datasets.build,
        examples,
        settings.home / "datasets" / "splits.parquet",
        settings.dataset,
        run.mode,
        champion.dataset if champion else None,
        tokenizer=_tokenizer(settings.train.profile),
        agreement=annotating.agreement_for_card(settings.annotations_dir) or None,
        keyring=keyring(settings),
    )
    with run.tracked() as tracker:
        tracker.params({"mode": run.mode, "parent": parent.version if parent else "base"})
        tracker.params(settings.dataset.model_dump(mode="json", exclude={"names"}), "dataset")
        tracker.dataset("dataset", ref)
    return ref


def run_training(
    run: Run,
    dataset: Ref,
    started: Callable[[train.Trainer], None] | None = None,
    environment: Mapping[str, str] | None = None,
    place: train.Place | None = None,
    on_progress: Callable[[train.Progress], None] = lambda progress: log.info("%s", progress),
) -> Ref:
    """Train an adapter in a child process; ``started`` gets the trainer, whose ``stop`` ends the child.

    ``place`` is where it runs instead of here.
    """
    settings = run.settings
    _refuse_foreign(run, dataset)
    profile = train.load_profile(settings.train.profile)
    devices = (environment or {}).get("CUDA_VISIBLE_DEVICES")

    def heard(progress: train.Progress) -> None:
        tracker.progress(progress.step, vars(progress))
        on_progress(progress)

    with run.tracked(live=True) as tracker, tracking.watched(tracker, devices):
        tracker.params(settings.train.model_dump(mode="json"), "train")
        tracker.params(profile.model_dump(mode="json"), "profile")
        tracker.dataset("dataset", dataset)
        trainer = train.Trainer(
            run.folder / "train",
            dataset,
            profile,
            settings.train,
            parent=run.parent.adapter if run.parent else None,
            on_progress=heard,
            environment=environment,
            place=place or (_provider(settings) if profile.hosted else None),
        )
        if started:
            started(trainer)
        ref = _made(run, "train", lambda _folder: trainer.run())
        tracker.training(ref)
        tracker.describe(_words(run, dataset, ref))
    return ref


def check_training(run: Run, dataset: Ref) -> list[str]:
    """What a training of this dataset would find here, looked at in seconds.

    Raises:
        OpstuneError: all that is in its way, in one.
    """
    settings = run.settings
    profile, parent = train.load_profile(settings.train.profile), run.parent.adapter if run.parent else None
    return train.Trainer(run.folder / "train", dataset, profile, settings.train, parent=parent).check()


def begin_hosted(run: Run, dataset: Ref) -> str | None:
    """Begin a training at a provider, or find the one that was begun: its job's id.

    None when there is no job to wait for: the profile trains here, or the training is finished. ``run_training`` then
    waits for the job, which takes no time once it has ended.
    """
    profile, folder = train.load_profile(run.settings.train.profile), run.folder / "train"
    if not profile.hosted or find_ref(folder):
        return None
    _refuse_foreign(run, dataset)
    parent = run.parent.adapter if run.parent else None
    place = _provider(run.settings, wait=False)
    try:
        train.Trainer(folder, dataset, profile, run.settings.train, parent=parent, place=place).run()
    except JobRuns as begun:
        return begun.job
    return None


def evaluate(run: Run, dataset: Ref, adapter: Ref) -> Ref:
    """Base, champion and challenger on the frozen test set, decoded as production decodes.

    Raises:
        EvaluationError: the challenger stands at a provider.
    """
    settings = run.settings
    _refuse_foreign(run, dataset)
    if model := model_of(adapter.path):
        what = f"the model {model} stands at a provider, and opstune cannot measure it there yet"
        todo = "It is trained and kept. Nothing was converted, registered or promoted, and the champion is as before."
        raise EvaluationError(what, str(adapter.path), todo)
    profile = train.load_profile(settings.train.profile)
    base, champion = train.base_folder(profile), run.champion
    # A base without a chat template of its own is asked in the one that the challenger learnt.
    chats = adapter.path if profile.chat_template else None
    adapters = {"base": None, "champion": champion.adapter if champion else None, "challenger": adapter.path}
    engines: dict[str, Callable[[], Engine]] = {
        role: partial(_hugging_face, base, folder, settings, None if folder else chats)
        for role, folder in adapters.items()
        if folder or role == "base"
    }
    inputs = {"adapter": adapter}
    ref = _signed(run, "evaluate", evaluating.evaluate, dataset, engines, settings.evaluate, inputs)
    _track_evaluation(run, ref, prefix="tested")
    return ref


def gate(run: Run, dataset: Ref, evaluation: Ref) -> Ref:
    """Hold the challenger against gates.yaml; writes the verdict and the report."""
    _refuse_foreign(run, dataset, evaluation)
    ref = _signed(run, "gate", evaluating.gate, evaluation, config_dir() / "gates.yaml", dataset=dataset)
    return _told(run, ref)


def convert(run: Run, adapter: Ref) -> Ref:
    """Merge the adapter and write the quantised GGUF that ships.

    Raises:
        ExportError: its weights stand at a provider.
    """
    settings = run.settings
    _refuse_foreign(run, adapter)
    if model := model_of(adapter.path):
        what = f"the model {model} stands at a provider: there are no weights to convert"
        raise ExportError(what, str(adapter.path), "Ask it there, or train a profile that trains here.")
    base = train.base_folder(train.load_profile(settings.train.profile))
    return _signed(run, "convert", export.convert, adapter, base, settings.export, settings.tools_dir, SYSTEM)


def evaluate_shipped(run: Run, dataset: Ref, gguf: Ref) -> Ref:
    """The same test set through llama.cpp, one request at a time, as it will be served."""
    settings = run.settings
    _refuse_foreign(run, dataset, gguf)
    engines = {"challenger": partial(_llama_cpp, gguf.path / "model.gguf", settings)}
    inputs = {"gguf": gguf}
    ref = _signed(run, "evaluate_shipped", evaluating.evaluate, dataset, engines, settings.evaluate, inputs)
    _track_evaluation(run, ref, prefix="shipped")
    return ref


def gate_shipped(run: Run, dataset: Ref, evaluation: Ref, tested: Ref) -> Ref:
    """The gate again, on the file that ships; it must also agree with what was tested."""
    _refuse_foreign(run, dataset, evaluation, tested)
    ref = _signed(
        run,
        "gate_shipped",
        evaluating.gate,
        evaluation,
        config_dir() / "gates.yaml",
        dataset=dataset,
        tested=tested,
        parity_points=run.settings.export.parity_points,
    )
    return _told(run, ref)


def register(run: Run, refs: Mapping[str, Ref]) -> str:
    """Bundle, sign and register what was tested; returns the semantic version."""
    _refuse_foreign(run, *refs.values())
    parent = run.parent.version if run.parent else None
    with run.tracked():
        return run.registry.register(refs, mode=run.mode, parent=parent, run_id=run.id).version


def deploy(run: Run, version: str) -> Version:
    """Make a version the champion on its own signed verdict; the one before becomes ``previous``."""
    with run.tracked() as tracker:
        promoted = run.registry.promote(version, who="retrain", why=f"run {run.id} passed its gate")
        tracker.tags({"verdict": "promote", "version": version})
        tracker.finish()
    return promoted


def read_verdict(ref: Ref) -> Verdict:
    return evaluating.read_verdict(ref)


def keyring(settings: Settings) -> Keyring:
    """The keys of the example store: files under ``keys/``, or the password of the connection opstune_store_key."""
    return Keyring.connected(settings.keys_dir, settings.connection)


def _signed(
    run: Run, stage: str, make: Callable[Concatenate[Path, P], Ref], *inputs: P.args, **options: P.kwargs
) -> Ref:
    """As ``_made``; a failure is told to the retrain's MLflow run."""
    with run.tracked():
        return _made(run, stage, make, *inputs, **options)


def _made(run: Run, stage: str, make: Callable[Concatenate[Path, P], Ref], *inputs: P.args, **options: P.kwargs) -> Ref:
    """What a stage makes into its folder, signed; or what stands there, if it is signed by this home's key."""
    folder = run.folder / stage
    return signing.signed(folder, run.settings.keys_dir, lambda: make(folder, *inputs, **options))


def _provider(settings: Settings, wait: bool = True) -> AtProvider:
    return AtProvider(settings.connection(OPENAI), settings.train, wait)


def _refuse_foreign(run: Run, *refs: Ref) -> None:
    for ref in refs:
        signing.check(ref, run.settings.keys_dir)


def _tokenizer(profile: str) -> datasets.Tokenizer | None:
    """What the dataset card counts tokens with: the profile's, or the embedded base's where that base is not here."""
    for name in (profile, *({"tiny"} & set(train.profile_names()))):
        base = train.load_profile(name)
        with contextlib.suppress(ConfigError):
            file = train.base_folder(base) / "tokenizer.json"
            if file.is_file():
                return datasets.Tokenizer(base.base_name, file)
    return None


def _scrub(settings: Settings) -> Scrub:
    from opstune.dataset.scrub import scrub

    return lambda example: scrub([example], settings.dataset.names)[0][0]


def _champion(settings: Settings) -> annotating.Model | None:
    """The champion, whose answers people are shown."""
    found = Registry(settings.tracking_uri, settings.registry, settings.home).champion()
    if found is None or not settings.annotate.ask_champion:
        return None
    gguf = found.folder / "gguf" / "model.gguf"
    engine: list[Engine] = []

    def ask(examples: Sequence[Example]) -> list[annotating.Guess | None]:
        engine[:] = engine or [_llama_cpp(gguf, settings)]  # loaded when the first question comes
        answers = engine[0].answer([Case(example.skill, example.context) for example in examples], constrained=True)
        return [annotating.Guess(answer.parsed) if answer.parsed else None for answer in answers]

    return annotating.Model(f"opstune {found.version}", ask)


def _words(run: Run, dataset: Ref, adapter: Ref) -> str:
    """A training in a sentence, and what it descends from: the description of its run in MLflow."""
    origin = f"going on from {run.parent.version}" if run.parent else "from the base"
    counts = ", ".join(f"{name} {value:,.6g}" for name, value in adapter.counts.items())
    sentence = (
        f"**{run.mode.capitalize()} retrain**, {origin}: profile {run.settings.train.profile}, "
        f"{dataset.counts['train']:,.0f} examples; {counts}."
    )
    descent = {name.replace("_", " "): value for name, value in tracking.lineage(adapter).items() if value is not None}
    return "\n".join([sentence, "", "| lineage | |", "|---|---|", *(f"| {k} | {v} |" for k, v in descent.items())])


def _told(run: Run, verdict: Ref) -> Ref:
    """A verdict that ends the retrain ends its MLflow run; one that promotes is told by the stages that follow."""
    found = read_verdict(verdict)
    if found.verdict != "promote":
        with run.tracked() as tracker:
            tracker.tags({"verdict": found.verdict, "verdict.why": found.sentence})
            tracker.finish()
    return verdict


def _track_evaluation(run: Run, evaluation: Ref, prefix: str) -> None:
    with run.tracked() as tracker:
        tracker.metrics({f"{prefix}/{name}": value for name, value in evaluation.counts.items()})


def _hugging_face(base: Path, adapter: Path | None, settings: Settings, chats: Path | None) -> Engine:
    from opstune.engines.hugging_face import HuggingFaceEngine  # torch takes seconds, and most stages need none

    asked = settings.evaluate
    return HuggingFaceEngine(
        base,
        adapter,
        batch_size=asked.batch_size,
        max_new_tokens=asked.max_new_tokens,
        threads=asked.threads,
        tokenizer=chats,
    )


def _llama_cpp(gguf: Path, settings: Settings) -> Engine:
    from opstune.engines.llama_cpp import LlamaCppEngine

    serve = settings.serve
    return LlamaCppEngine(
        gguf, context_tokens=serve.context_tokens, max_new_tokens=serve.max_new_tokens, threads=serve.threads
    )
