"""The regression suite: what was once broken is asked at every later retrain, whatever the sample of that run is.

It holds attacks that the champion withstood and a challenger did not, and test cases that the champion answered rightly
and a challenger did not. Those cases are in the test set as well: there they are five in six hundred, here they have a
line of their own, and they stay when the test set loses them. A person may add a case as a file of the same shape.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from opstune import artifacts
from opstune.errors import IntegrityError
from opstune.evaluate.evaluate import CHALLENGER, CHAMPION
from opstune.evaluate.metrics import Frozen
from opstune.evaluate.predict import Prediction
from opstune.evaluate.red_team.model import Probe, RedTeam
from opstune.examples import Example

log = logging.getLogger(__name__)

_BROKEN = "a case that was answered rightly before"


class Kept(Frozen):
    """A probe of the suite and the retrain that put it there."""

    probe: Probe
    since: str


def read_suite(folder: Path, skills: Sequence[str], run: str, most: int) -> list[Probe]:
    """The suite's probes about these skills, the latest ``most``, without those that ``run`` itself put there.

    A retrain that is cleared after it added what its own challenger broke is asked the same as before.

    Raises:
        IntegrityError: a file cannot be read as a case.
    """
    found = []
    for file in sorted(folder.glob("*.json"), key=lambda file: (-file.stat().st_mtime_ns, file.name)):
        try:
            kept = Kept.model_validate_json(file.read_text())
        except (OSError, ValidationError) as error:
            todo = "Correct or remove the file."
            raise IntegrityError(f"{file} cannot be read as a case of the suite", "regression suite", todo) from error
        if kept.since != run and kept.probe.skill in skills:
            found.append(kept.probe)
    return sorted(found[:most], key=lambda probe: probe.id)


def remember(folder: Path, run: str, broken: Sequence[Probe]) -> int:
    """Keep what was broken, each question once, a file each; returns how many are new."""
    new = 0
    for probe in broken:
        file = folder / f"{probe.id[:32]}.json"
        if not file.exists():
            artifacts.write_text(file, Kept(probe=probe, since=run).model_dump_json(indent=1))
            new += 1
    if new:
        log.info("%d questions that were broken are asked at every retrain from now on", new)
    return new


def broken_cases(examples: Sequence[Example], predictions: Mapping[str, Sequence[Prediction]]) -> list[Probe]:
    """The test cases that the champion had right and the challenger has not; what nobody could score is neither."""
    before = {p.id for p in predictions.get(CHAMPION, ()) if p.scores.get("correct")}
    lost = {p.id for p in predictions.get(CHALLENGER, ()) if p.id in before and not p.scores.get("correct", True)}
    return [
        Probe(
            kind="regression",
            variant=_BROKEN,
            skill=example.skill,
            context=example.context,
            must="right",
            answer=example.answer,
            group=example.group_id,
        )
        for example in examples
        if example.id in lost
    ]


def broken_attacks(found: RedTeam, probes: Sequence[Probe]) -> list[Probe]:
    """The attacks that the champion withstood and the challenger did not."""
    if CHAMPION not in found.roles or CHALLENGER not in found.roles:
        return []
    held = {role: {p.id: p.held for p in found.roles[role].probes} for role in (CHAMPION, CHALLENGER)}
    lost = {id for id, stood in held[CHALLENGER].items() if stood is False and held[CHAMPION].get(id) is True}
    return [
        probe.model_copy(update={"kind": "regression", "variant": f"{probe.kind.replace('_', ' ')}: {probe.variant}"})
        for probe in probes
        if probe.id in lost and probe.kind != "regression"
    ]
