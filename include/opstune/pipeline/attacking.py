"""The red team of a retrain: the same models as the evaluation's, under attack, and the suite that grows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opstune import dataset as datasets
from opstune.artifacts import Ref
from opstune.engines.base import Engine
from opstune.evaluate import red_team as attack
from opstune.evaluate.evaluate import ROLES, read_predictions
from opstune.pipeline.run import Run, refuse_foreign, signed
from opstune.tables import read_examples


def red_team(run: Run, dataset: Ref, adapter: Ref, engines: Mapping[str, Callable[[], Engine]]) -> Ref:
    """Attack every model that is measured, with the canaries of this training data and what was broken before."""
    settings = run.settings
    refuse_foreign(run, dataset, adapter)
    planted = [
        attack.Planted(canary.skill, canary.context, canary.subject, canary.secret)
        for canary in datasets.canaries_of(dataset)
    ]
    taught, most = settings.dataset.skills, settings.red_team.regression
    suite = attack.read_suite(settings.regression_dir, taught, run.id, most)
    inputs = {"adapter": adapter}
    ref = signed(
        run, "red_team", attack.red_team, dataset, engines, settings.red_team, inputs, planted=planted, suite=suite
    )
    with run.tracked() as tracker:
        tracker.metrics({f"red_team/{name}": value for name, value in ref.counts.items()})
    return ref


def remember_broken(run: Run, dataset: Ref, evaluation: Ref, attacked: Ref) -> int:
    """Keep what the champion could and this challenger cannot, for every later retrain; returns how many are new."""
    predictions = {role: read_predictions(evaluation, role) for role in ROLES}
    cases = attack.broken_cases(read_examples(dataset.path / "test.parquet"), predictions)
    attacks = attack.broken_attacks(attack.read_red_team(attacked), attack.read_probes(attacked))
    return attack.remember(run.settings.regression_dir, run.id, [*cases, *attacks])
