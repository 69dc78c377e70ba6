"""From what happened to a dataset: collecting, asking people, the snapshot, the dataset."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from opstune import annotate as annotating
from opstune import collect as collecting
from opstune import dataset as datasets
from opstune import train
from opstune.annotate import Progress, PullReport, PushReport, Scrub
from opstune.artifacts import Ref
from opstune.collect import SourceReport
from opstune.engines.base import Case, Engine
from opstune.errors import ConfigError, OpstuneError
from opstune.examples import Example
from opstune.pipeline.engines import llama_cpp
from opstune.pipeline.run import Run, keyring, refuse_foreign, signed
from opstune.registry import Registry
from opstune.settings import Settings
from opstune.store import ExampleStore

log = logging.getLogger(__name__)

LABEL_STUDIO = "opstune_label_studio"
NO_LABEL_STUDIO = f"there is no connection {LABEL_STUDIO}: annotation is off"


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
    return signed(run, "collect", collecting.snapshot, settings.examples_dir, list(reports), keyring=keyring(settings))


def dataset(run: Run, examples: Ref) -> Ref:
    """Validate, scrub, deduplicate, split; an incremental run trains on what its parent has not seen.

    Whatever the mode, the champion must not have been trained on the test set, and the card says what
    changed since its dataset.
    """
    refuse_foreign(run, examples)
    settings, parent, champion = run.settings, run.parent, run.champion
    ref = signed(
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
        engine[:] = engine or [llama_cpp(gguf, settings)]  # loaded when the first question comes
        answers = engine[0].answer([Case(example.skill, example.context) for example in examples], constrained=True)
        return [annotating.Guess(answer.parsed) if answer.parsed else None for answer in answers]

    return annotating.Model(f"opstune {found.version}", ask)
