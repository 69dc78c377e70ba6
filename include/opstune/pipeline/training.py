"""From a dataset to an adapter: here, in a pod or at a provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from opstune import tracking, train
from opstune.artifacts import Ref
from opstune.artifacts import find as find_ref
from opstune.pipeline.run import Run, made, refuse_foreign
from opstune.settings import Settings
from opstune.train.backends.openai import CONNECTION as OPENAI
from opstune.train.backends.openai import JobRuns
from opstune.train.hosted import AtProvider

log = logging.getLogger(__name__)


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
    refuse_foreign(run, dataset)
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
        ref = made(run, "train", lambda _folder: trainer.run())
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
    refuse_foreign(run, dataset)
    parent = run.parent.adapter if run.parent else None
    place = _provider(run.settings, wait=False)
    try:
        train.Trainer(folder, dataset, profile, run.settings.train, parent=parent, place=place).run()
    except JobRuns as begun:
        return begun.job
    return None


def _provider(settings: Settings, wait: bool = True) -> AtProvider:
    return AtProvider(settings.connection(OPENAI), settings.train, wait)


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
