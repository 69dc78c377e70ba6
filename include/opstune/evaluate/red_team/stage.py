"""The red team as a stage: every attack put to every model through its engine, judged, and kept with the run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from opstune import artifacts
from opstune.artifacts import Ref, fingerprint
from opstune.engines.base import Answer, Case, Engine
from opstune.errors import EvaluationError, IntegrityError, OpstuneError
from opstune.evaluate.evaluate import ROLES, identity
from opstune.evaluate.metrics import share
from opstune.evaluate.red_team.attacks import attacks
from opstune.evaluate.red_team.judge import Said, judge, masked
from opstune.evaluate.red_team.model import METRICS, WHY, Attacked, Planted, Probe, Probed, RedTeam, metrics_of
from opstune.settings import RedTeamSettings
from opstune.skills import get
from opstune.skills.base import target
from opstune.tables import read_examples

log = logging.getLogger(__name__)

_FILE, _PROBES = "red_team.json", "probes.json"
_LIST = TypeAdapter(list[Probe])
#: Asked alone, since their time counts; of the others the batch's does.
_ALONE = ("unknown_alert", "empty", "oversized")
#: So many signs of a question are kept from either end: an attack stands at one of them.
_ENDS = 1_000


def red_team(
    folder: Path,
    dataset: Ref,
    engines: Mapping[str, Callable[[], Engine]],
    settings: RedTeamSettings,
    inputs: Mapping[str, Ref | None],
    *,
    planted: Sequence[Planted] = (),
    suite: Sequence[Probe] = (),
) -> Ref:
    """Attack each role's model, decoded as production decodes; ``inputs`` names the refs that the models come from.

    ``planted`` are the canaries of the training data, ``suite`` the regression suite; what this run asks anyway is not
    asked twice. Counts of the ref: ``<role>.<metric>`` as shares of the probes that held, and how many probes.

    Raises:
        EvaluationError: the test set is empty, or a model stopped answering: nobody may judge it then.
        IntegrityError: a file of an input changed.
    """
    for ref in (dataset, *inputs.values()):
        if ref:
            artifacts.verify(ref)
    roles = [role for role in ROLES if role in engines]
    opened = {role: engines[role]() for role in roles}
    asked = {
        **settings.model_dump(),
        "engines": {role: identity(engine) for role, engine in opened.items()},
        "planted": fingerprint([canary.secret for canary in planted]),
        "suite": [probe.id for probe in suite],
    }

    def make(out: Path) -> Mapping[str, float]:
        probes = _probes(dataset, settings, planted, suite)
        secrets = [canary.secret for canary in planted]
        attacked = {role: _attack(role, opened.pop(role), probes, secrets, settings) for role in roles}
        found = RedTeam(dataset_sha256=dataset.sha256, planted=len(planted), roles=attacked)
        artifacts.write_text(out / _PROBES, json.dumps([probe.model_dump(mode="json") for probe in probes], indent=1))
        artifacts.write_text(out / _FILE, json.dumps(found.model_dump(mode="json"), indent=1))
        shares = {
            f"{role}.{metric}": round(found.value, 4)
            for role, one in attacked.items()
            for metric, found in one.metrics.items()
        }
        return {"probes": len(probes), **shares}

    return artifacts.build(folder, "red_team", {**inputs, "dataset": dataset}, asked, make)


def read_red_team(ref: Ref) -> RedTeam:
    """The results of a red team.

    Raises:
        IntegrityError: they cannot be read.
    """
    path = ref.path / _FILE
    try:
        return RedTeam.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{path} is missing or unreadable", "red team", "Run the red team again.") from error


def read_probes(ref: Ref) -> list[Probe]:
    """The questions of a red team, whole."""
    return _LIST.validate_json((ref.path / _PROBES).read_text())


def _probes(dataset: Ref, settings: RedTeamSettings, planted: Sequence[Planted], suite: Sequence[Probe]) -> list[Probe]:
    examples = read_examples(dataset.path / "test.parquet")
    if not examples:
        raise EvaluationError("the test set is empty", str(dataset.path), "Collect more history; see the dataset card.")
    trained = dataset.path / "train.parquet"
    mine = attacks(examples, read_examples(trained) if trained.is_file() else [], planted, settings)
    known = {probe.id for probe in mine}
    return [*mine, *(probe for probe in suite if probe.id not in known)]


def _attack(
    role: str, engine: Engine, probes: Sequence[Probe], secrets: Sequence[str], settings: RedTeamSettings
) -> Attacked:
    started = time.monotonic()
    said = _ask(engine, probes)
    stood = [
        _probed(probe, answer, judge(probe, answer, secrets, settings.seconds), secrets)
        for probe, answer in zip(probes, said, strict=True)
    ]
    counted: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    unsaid = dict.fromkeys(METRICS, 0)
    for probe in stood:
        for metric in metrics_of(probe.kind):
            if probe.held is None:
                unsaid[metric] += 1
            else:
                counted[metric].append(probe.held)
    shares = {metric: share(sum(found), len(found)) for metric, found in counted.items() if found}
    told = ", ".join(f"{metric.replace('_', ' ')} {found.k} of {found.n}" for metric, found in shares.items())
    seconds = time.monotonic() - started
    log.info("%s: %d attacks in %.1f s; held: %s", role, len(probes), seconds, told)
    return Attacked(
        engine=engine.name,
        seconds=round(seconds, 3),
        metrics=shares,
        cannot_say={metric: n for metric, n in unsaid.items() if n},
        probes=stood,
    )


def _ask(engine: Engine, probes: Sequence[Probe]) -> list[Said]:
    """Every probe and every clean twin once: together where only the answer counts, alone where the time does."""
    cleans = {_clean_key(probe): Case(probe.skill, probe.clean) for probe in probes if probe.clean is not None}
    clean = dict(zip(cleans, _answers(engine, list(cleans.values()), True)[0], strict=True))
    found: dict[str, tuple[Answer, float]] = {}
    for constrained in (True, False):
        batch = [probe for probe in probes if probe.constrained == constrained and probe.kind not in _ALONE]
        answers, seconds = _answers(engine, [Case(p.skill, p.context) for p in batch], constrained)
        found.update({p.id: (answer, seconds / len(batch)) for p, answer in zip(batch, answers, strict=True)})
    for probe in probes:
        if probe.kind in _ALONE:
            (answer,), seconds = _answers(engine, [Case(probe.skill, probe.context)], probe.constrained)
            found[probe.id] = answer, seconds
    return [Said(found[p.id][0], clean.get(_clean_key(p)), found[p.id][1]) for p in probes]


def _answers(engine: Engine, cases: Sequence[Case], constrained: bool) -> tuple[list[Answer], float]:
    """The answers and the seconds that they took together."""
    if not cases:
        return [], 0.0
    started = time.monotonic()
    try:
        answers = engine.answer(cases, constrained=constrained)
    except OpstuneError:
        raise
    except Exception as error:  # as in predict: a model's own code that breaks is a broken evaluation
        raise EvaluationError(f"the engine failed: {error}", engine.name, "See the log above.") from error
    if len(answers) != len(cases):
        what = f"the engine answered {len(answers)} of {len(cases)} attacks"
        raise EvaluationError(what, engine.name, "Run the red team again; a half-attacked model is not judged.")
    return answers, time.monotonic() - started


def _probed(probe: Probe, said: Said, verdict: tuple[bool | None, str], secrets: Sequence[str]) -> Probed:
    held, reason = verdict
    asked = get(probe.skill).render(probe.context)
    return Probed(
        id=probe.id,
        kind=probe.kind,
        variant=probe.variant,
        skill=probe.skill,
        group=probe.group,
        constrained=probe.constrained,
        must=probe.must,
        why=WHY[probe.must],
        held=held,
        reason=reason,
        asked=asked if len(asked) <= 2 * _ENDS else f"{asked[:_ENDS]} ... ({len(asked):,} signs) ... {asked[-_ENDS:]}",
        text=masked(said.answer.text, secrets),
        right=target(probe.answer) if probe.answer else "",
    )


def _clean_key(probe: Probe) -> str:
    return fingerprint([probe.skill, probe.clean])
