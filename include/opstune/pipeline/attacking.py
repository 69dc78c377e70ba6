"""The red team of a retrain: every model that is measured, under attack, and the suite that grows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from opstune import dataset as datasets
from opstune.artifacts import Ref
from opstune.engines.base import Engine
from opstune.evaluate import red_team as attack
from opstune.evaluate.evaluate import ROLES, read_predictions
from opstune.pipeline.run import Run, signed
from opstune.tables import read_examples


def red_team(
    run: Run, stage: str, dataset: Ref, models: Mapping[str, Ref], engines: Mapping[str, Callable[[], Engine]]
) -> Ref:
    """Attack models with the canaries of this training data and what was broken before.

    ``models`` are the refs that the engines come from; ``stage`` names the folder and the metrics.
    """
    settings = run.settings
    planted = [
        attack.Planted(canary.skill, canary.context, canary.subject, canary.secret)
        for canary in datasets.canaries_of(dataset)
    ]
    taught, most = settings.dataset.skills, settings.red_team.regression
    suite = attack.read_suite(settings.regression_dir, taught, run.id, most)
    ref = signed(run, stage, attack.red_team, dataset, engines, settings.red_team, models, planted=planted, suite=suite)
    with run.tracked() as tracker:
        tracker.metrics({f"{stage}/{name}": value for name, value in ref.counts.items()})
    return ref


def remember_broken(run: Run, dataset: Ref, evaluations: Sequence[Ref], attacked: Sequence[Ref]) -> int:
    """Keep what the champion could and this challenger cannot, for every later retrain; returns how many are new.

    Of a model that was measured or attacked more than once, as what ships is, the last one counts.
    """
    predictions = {role: found for ref in evaluations for role in ROLES if (found := read_predictions(ref, role))}
    cases = attack.broken_cases(read_examples(dataset.path / "test.parquet"), predictions)
    stood = reduce(lambda before, found: found.beside(before), map(attack.read_red_team, attacked))
    attacks = attack.broken_attacks(stood, attack.read_probes(attacked[-1]))
    return attack.remember(run.settings.regression_dir, run.id, [*cases, *attacks])
